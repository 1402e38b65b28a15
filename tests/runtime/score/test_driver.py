"""The loop over files, with a handler in this process: order, memory, and runs that end early."""

import asyncio
import json
import shutil

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from base.errors import Conflict, PexdockError, TooLarge, Unavailable
from local_scorer import LocalScorer
from runtime.score import driver
from runtime.score.driver import Driver, DriverLimits, _whole
from runtime.score.journal import Journal
from runtime.score.places import find_inputs, open_output
from runtime.score.readers import ReadLimits
from runtime.score.results import Output
from runtime.score.single_file import SingleFile

MANY = 10**9


@pytest.fixture
def drive(tmp_path):
    """Returns a function that scores the files of `in` into `out`, and returns the records."""
    (tmp_path / "in").mkdir()

    def run(scorer, *, batch_rows=10, part_rows=50, memory=MANY, refused=MANY, ending=".ndjson", row_column="row"):
        limits = DriverLimits(ReadLimits(batch_rows, MANY, part_rows), memory, refused, row_column)
        progress = []

        async def drive():
            scoring = Driver(
                scorer,
                Journal(open_output(str(tmp_path / "out"), tmp_path)),
                find_inputs(str(tmp_path / "in" / "*")),
                ending,
                limits,
                lambda *seen: progress.append(seen),
            )
            return await scoring.run()

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


@pytest.mark.parametrize("content", [b"", b"PAR1 no PAR1"])
def test_a_file_that_is_replaced_while_it_is_read_has_changed_and_is_not_damaged(drive, tmp_path, content):
    write(tmp_path, "a.parquet", list(range(50)))
    write(tmp_path, "b.parquet", list(range(50)))

    def handler(x):
        (tmp_path / "in" / "b.parquet").write_bytes(content)
        return x

    scorer = LocalScorer(handler)
    scorer.parallel = 1  # the second file is opened after the first one
    with pytest.raises(PexdockError, match=r"b.parquet was changed while it was read"):
        drive(scorer)


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


@pytest.mark.parametrize("ending", [".parquet", ".arrow", ".csv", ".ndjson"])
def test_a_part_without_results_has_the_declared_columns_or_no_file(drive, tmp_path, ending):
    """A file with other columns than the rest would hide these from readers of the folder. The part is still done."""
    write(tmp_path, "a.parquet", [1, 2])
    (tmp_path / "in" / "b.csv").write_text("x\nno\nnone\n")
    (tmp_path / "in" / "c.csv").write_text("x\n")
    records = drive(LocalScorer(), ending=ending)
    assert sorted(path.name for path in (tmp_path / "out").glob(f"[abc]-*{ending}")) == [f"{name}-00000{ending}" for name in "abc"]
    if ending == ".parquet":
        assert {str(pq.read_schema(path)) for path in (tmp_path / "out").glob("*.parquet")} == {"row: int64\ny: int64"}
    shutil.rmtree(tmp_path / "out")
    scorer = LocalScorer()
    scorer.empty = None  # it declares no results
    assert [(each.rows, each.results) for each in drive(scorer, ending=ending)] == [(each.rows, each.results) for each in records]
    assert [path.name for path in (tmp_path / "out").glob(f"[abc]-*{ending}")] == [f"a-00000{ending}"]
    assert len((tmp_path / "out" / "_refused.ndjson").read_text().splitlines()) == 2
    again = LocalScorer()
    again.empty = None
    drive(again, ending=ending)
    assert not again.calls


@pytest.mark.parametrize("ending", [".parquet", ".arrow", ".csv", ".ndjson"])
@pytest.mark.parametrize("declares", [True, False])
def test_a_row_column_with_the_name_of_a_result_is_refused(drive, tmp_path, ending, declares):
    write(tmp_path, "a.parquet", [1, 2])
    scorer = LocalScorer()
    scorer.empty = scorer.empty if declares else None
    with pytest.raises(Conflict, match=r"the results have a column 'y' already; choose another name with --row-column"):
        drive(scorer, ending=ending, row_column="y")
    assert len(scorer.calls) == (not declares)


@pytest.mark.parametrize("ending", [".parquet", ".arrow", ".csv", ".ndjson"])
def test_a_result_may_have_a_column_without_a_name(drive, tmp_path, ending):
    """It is no wish for a column with the numbers of rows."""
    write(tmp_path, "a.parquet", [1, 2])
    drive(UnnamedScorer(), ending=ending, row_column="")
    (path,) = (tmp_path / "out").glob(f"*{ending}")
    readers = {".parquet": pl.read_parquet, ".arrow": pl.read_ipc, ".csv": pl.read_csv, ".ndjson": pl.read_ndjson}
    assert readers[ending](path).rows() == [(2,), (4,)]


class UnnamedScorer(LocalScorer):
    def __init__(self):
        super().__init__()
        self.empty = None

    async def score(self, rows, *, is_suspect=False):
        answer = await super().score(rows, is_suspect=is_suspect)
        return answer._replace(results=answer.results.rename_columns([""]))


@pytest.mark.parametrize("name", ["a.csv", "a.ndjson", "a.arrow", "a.parquet"])
def test_a_file_that_is_one_request_is_not_read_beyond_the_memory_for_it(drive, tmp_path, monkeypatch, name):
    path = tmp_path / "in" / name
    frame = pl.DataFrame({"x": range(20_000)})
    if name.endswith("parquet"):
        pq.write_table(frame.to_arrow(), path, row_group_size=1000)
    elif name.endswith("arrow"):
        with pa.ipc.new_file(path, frame.to_arrow().schema) as file:
            file.write_table(frame.to_arrow(), max_chunksize=1000)
    else:
        {"a.csv": frame.write_csv, "a.ndjson": frame.write_ndjson}[name](path)
    chunks = []
    monkeypatch.setattr(driver, "_whole", lambda found, most: _whole((chunks.append(chunk) or chunk for chunk in found), most))
    scorer = LocalScorer()
    scorer.is_whole = True
    with pytest.raises(TooLarge, match=r"this one takes more than 10000 bytes; divide the file, or raise score_memory_max_bytes"):
        drive(scorer, batch_rows=100, memory=40_000, row_column="")
    assert sum(chunk.count for chunk in chunks) < 3000
    drive(scorer, batch_rows=100, row_column="")
    assert [len(call) for call in scorer.calls] == [20_000]


def test_a_row_column_of_results_that_are_not_of_rows_is_refused(drive, tmp_path):
    write(tmp_path, "a.parquet", [1, 2])
    scorer = LocalScorer()
    scorer.is_whole = True
    with pytest.raises(Conflict, match=r"takes all rows of a file at once.*omit --row-column"):
        drive(scorer)


@pytest.mark.parametrize("ending", [".parquet", ".arrow", ".csv", ".ndjson"])
def test_one_file_has_the_columns_of_the_parts_with_results_or_none(drive, tmp_path, ending):
    for content, columns in ("x\n1\n", ["row", "y"]), ("x\nno\n", []):
        (tmp_path / "in" / "a.csv").write_text("x\nno\n")
        (tmp_path / "in" / "b.csv").write_text(content)
        scorer = LocalScorer()
        scorer.empty = None
        records = drive(scorer, ending=".arrow")
        target = Output.parse(f"{tmp_path}/all{ending}")
        SingleFile(target._replace(folder=str(tmp_path / "out")), open_output(str(tmp_path / "out"), tmp_path)).write(records)
        found = tmp_path / f"all{ending}"
        if ending == ".parquet":
            assert pq.read_schema(found).names == columns
        elif ending == ".arrow":
            assert pa.ipc.open_file(found).schema.names == columns
        elif ending == ".csv":
            assert found.read_text().splitlines()[0] == ",".join(columns)
        else:
            assert found.read_text() == ('{"row":0,"y":2}\n' if columns else "")
