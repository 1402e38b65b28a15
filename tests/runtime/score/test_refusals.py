"""Rows that cannot be scored are found one by one, and all others are scored."""

import asyncio
import json

import numpy as np
import pyarrow as pa
import pytest

from base.errors import Cell, Full, HandlerFailed, Misfit, Reject
from local_scorer import LocalScorer
from runtime.score.chunks import TableChunk, TextChunk
from runtime.score.refusals import ChunkScorer


def scored(chunk, handler=lambda x: x * 2):
    """Returns the results by row, the rows that were refused with their reasons, and the sizes of the calls."""
    scorer = LocalScorer(handler)
    found = asyncio.run(ChunkScorer(scorer, "file").score(chunk))
    results = {}
    for numbers, batch in found.results:
        assert len(numbers) == batch.num_rows
        results |= dict(zip(numbers.tolist(), batch.column(0).to_pylist(), strict=True))
    assert list(results) == sorted(results)
    return results, {each.row: each.reason for each in found.refused}, [len(call) for call in scorer.calls]


def lines(values):
    return TextChunk(
        100,
        [value if isinstance(value, bytes) else json.dumps({"x": value}).encode() + b"\n" for value in values],
        lambda decoder, body: decoder.from_ndjson(body),
    )


def table(values):
    return TableChunk(0, pa.table({"x": pa.array(values), "s": pa.array([None] * len(values), pa.string_view())}), 0)


@pytest.mark.parametrize("bad", [{5}, {0}, {99}, {0, 1, 2, 50, 98, 99}, set(range(100)), set(range(0, 100, 2)), set()])
def test_rows_that_do_not_fit_are_refused_wherever_they_are(bad):
    """The result of the others is that of one call."""
    results, refused, calls = scored(lines(["bad" if i in bad else i for i in range(100)]))
    assert results == {100 + i: i * 2 for i in range(100) if i not in bad}
    assert refused == {100 + i: "column 'x': expected an Int64, got 'bad'" for i in bad} or list(refused) == [100 + i for i in sorted(bad)]
    assert calls == ([100 - len(bad)] if len(bad) < 100 else [])


def test_a_line_that_is_no_json_is_refused_without_the_number_of_another_row():
    results, refused, _ = scored(lines([1, b"{]\n", 3]))
    assert (results, list(refused)) == ({100: 2, 102: 6}, [101])
    assert refused[101].startswith("the row is not JSON: ")


def test_reasons_of_a_row_of_csv_speak_of_the_row_and_of_no_place_in_a_text_of_ours():
    records = [b"1,a\n", b"2,a,b\n", b'3,"a"b\n', b"4,\xe9\n"]
    chunk = TextChunk(0, records, lambda decoder, body: decoder.from_csv(body), b"x,s\n")
    results, refused, _ = scored(chunk)
    assert results == {0: 2}
    assert refused == {
        1: "the row is not CSV in UTF-8: CSV parse error: Expected 2 columns, got 3: 2,a,b",
        2: "the row is not CSV: a quoted cell is not closed, or text follows its closing quote; write a quote in it twice",
        3: "the row is not CSV in UTF-8: 'utf-8' codec can't decode byte 0xe9: invalid continuation byte",
    }


def test_rows_that_the_handler_names_are_refused_and_the_others_called_once_more():
    def handler(x):
        if bad := np.flatnonzero(x % 10 == 3).tolist():
            raise Reject(422, "ends with three", bad)
        return x

    results, refused, calls = scored(table(range(100)), handler)
    assert set(results) == {i for i in range(100) if i % 10 != 3}
    assert refused == dict.fromkeys(range(3, 100, 10), "ends with three")
    assert calls == [100, 90]


def test_a_handler_may_name_one_row_at_a_time_however_many_there_are():
    """Deeper than Python could recurse."""

    def handler(x):
        bad = np.flatnonzero(x >= 0)
        if len(bad):
            raise Misfit("no", cells=[Cell(int(bad[0]), "x", "is not negative")])
        return x

    results, refused, _ = scored(table([*range(1500), -7]), handler)
    assert (results, len(refused), refused[3]) == ({1500: -7}, 1500, "column 'x': is not negative")


def test_an_error_that_names_no_row_is_traced_to_its_row():
    def handler(x):
        if 321 in x or 322 in x:
            raise HandlerFailed("the handler failed; see the log of the worker, incident 7")
        return x

    results, refused, calls = scored(table(range(1000)), handler)
    assert set(results) == set(range(1000)) - {321, 322}
    assert refused == dict.fromkeys((321, 322), "the handler raised an error; see the log of the run")
    assert len(calls) < 50


def test_an_error_that_may_pass_ends_the_run():
    def handler(_):
        raise Full("out of shared memory")

    with pytest.raises(Full):
        scored(table([1, 2]), handler)
