"""The loop over files, with a handler in this process: order, memory, and runs that end early."""

import asyncio
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from base.errors import PexdockError, Unavailable
from local_scorer import LocalScorer
from runtime.score.driver import Driver, DriverLimits
from runtime.score.journal import Journal
from runtime.score.places import find_inputs, open_output
from runtime.score.readers import ReadLimits

MANY = 10**9


@pytest.fixture
def drive(tmp_path):
    """Returns a function that scores the files of `in` into `out`, and returns the records."""
    (tmp_path / "in").mkdir()

    def run(scorer, *, batch_rows=10, part_rows=50, memory=MANY, refused=MANY, ending=".ndjson"):
        limits = DriverLimits(ReadLimits(batch_rows, MANY, part_rows), memory, refused, "row")
        progress = []

        async def drive():
            driver = Driver(
                scorer,
                Journal(open_output(str(tmp_path / "out"), tmp_path)),
                find_inputs(str(tmp_path / "in" / "*")),
                ending,
                limits,
                lambda *seen: progress.append(seen),
            )
            return await driver.run()

        try:
            return asyncio.run(drive())
        finally:
            assert not list((tmp_path / "out" / "_score" / "aside").iterdir())
            run.progress = progress

    return run


def write(folder, name, xs):
    pq.write_table(pa.table({"x": xs}), folder / "in" / name, row_group_size=25)


def results(folder):
    return {path.name: [json.loads(line) for line in path.read_text().splitlines()] for path in sorted((folder / "out").glob("*.ndjson"))}


def test_results_have_the_order_of_the_rows_whatever_is_answered_first(drive, tmp_path):
    write(tmp_path, "a.parquet", list(range(130)))
    (tmp_path / "in" / "b.csv").write_text("x\n" + "\n".join(map(str, range(75))))
    records = drive(LocalScorer(answers_from=3))
    found = results(tmp_path)
    assert [(name, [row["row"] for row in rows]) for name, rows in found.items()] == [
        ("a-00000.ndjson", list(range(50))),
        ("a-00001.ndjson", list(range(50, 100))),
        ("a-00002.ndjson", list(range(100, 130))),
        ("b-00000.ndjson", list(range(50))),
        ("b-00001.ndjson", list(range(50, 75))),
    ]
    assert all(row["y"] == row["row"] * 2 for rows in found.values() for row in rows)
    assert [record.file for record in records] == list(found)
    files = sum(path.stat().st_size for path in (tmp_path / "in").iterdir())
    assert sum(weight for weight, _, _ in drive.progress) == pytest.approx(files, abs=len("x\n"))
    assert sum(rows for _, rows, _ in drive.progress) == 205


def test_no_more_rows_are_held_than_fit_into_the_memory(drive, tmp_path):
    """With room for one chunk, there is one call at a time; nothing waits for ever."""
    for i in range(4):
        write(tmp_path, f"{i}.parquet", list(range(100)))
    scorer = LocalScorer()
    drive(scorer, memory=1)
    assert (scorer.most, len(scorer.calls)) == (1, 4 * 100 // 10)


def test_a_run_that_fails_keeps_what_is_done_and_the_next_one_computes_only_the_rest(drive, tmp_path):
    write(tmp_path, "a.parquet", list(range(200)))

    def handler(x):
        if (x == 120).any():
            raise Unavailable("no worker is ready")
        return x * 2

    with pytest.raises(Unavailable):
        drive(LocalScorer(handler))
    before = results(tmp_path)
    assert "a-00002.ndjson" not in before
    second = LocalScorer()
    drive(second)
    computed = {x for call in second.calls for x in call}
    assert computed == set(range(200)) - {row["row"] for rows in before.values() for row in rows}
    assert list(results(tmp_path)) == [f"a-{i:05}.ndjson" for i in range(4)]
    third = LocalScorer()
    drive(third)
    assert not third.calls


def test_a_part_whose_file_was_removed_or_cut_is_computed_again(drive, tmp_path):
    write(tmp_path, "a.parquet", list(range(150)))
    drive(LocalScorer())
    expected = results(tmp_path)
    (tmp_path / "out" / "a-00000.ndjson").unlink()
    (tmp_path / "out" / "a-00001.ndjson").write_text("cut")
    again = LocalScorer()
    drive(again)
    assert ({x for call in again.calls for x in call}, results(tmp_path)) == (set(range(100)), expected)


def test_a_file_that_changes_while_it_is_read_ends_the_run_without_its_results(drive, tmp_path):
    write(tmp_path, "a.parquet", list(range(50)))

    def handler(x):
        (tmp_path / "in" / "a.parquet").touch()
        return x

    with pytest.raises(PexdockError, match=r"a.parquet was changed while it was read"):
        drive(LocalScorer(handler))
    assert results(tmp_path) == {}


def test_too_many_refused_rows_end_the_run_also_one_that_continues(drive, tmp_path):
    (tmp_path / "in" / "a.csv").write_text("x\n" + "no\n" * 30 + "1\n" * 100)
    for _ in range(2):
        with pytest.raises(PexdockError, match=r"more than 29 rows are refused"):
            drive(LocalScorer(), refused=29)
    drive(LocalScorer(), refused=30)
    lines = (tmp_path / "out" / "_refused.ndjson").read_text().splitlines()
    assert [json.loads(line)["row"] for line in lines] == list(range(30))


def test_two_calls_with_different_columns_are_an_error_that_says_what_to_do(drive, tmp_path):
    write(tmp_path, "a.parquet", list(range(50)))
    scorer = LocalScorer()
    original = scorer.score

    async def score(rows, **given):
        answer = await original(rows, **given)
        return answer if len(scorer.calls) < 3 else answer._replace(results=answer.results.rename_columns(["z"]))

    scorer.score = score
    with pytest.raises(PexdockError, match=r"two calls of the handler returned different columns.*declare the endpoint's output schema"):
        drive(scorer)
