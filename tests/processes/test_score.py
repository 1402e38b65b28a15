"""`pexdock score`: a model over files, with real workers. Independent readers look at the results."""

import csv
import io
import json
import random
import signal
import time
from itertools import chain

import duckdb
import obstore
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
from obstore.store import from_url

import servers
from scoring import Scoring
from small_disk import mounted
from waiting import until

pytestmark = pytest.mark.processes


@pytest.fixture
def scoring(tmp_path):
    return Scoring(tmp_path)


def write_parquet(path, xs, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"x": pa.array(xs, pa.int64()), "unused": ["u"] * len(xs)}), path, **options)


def refused(scoring, output="out"):
    path = scoring.folder / output / "_refused.ndjson"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [(line["file"].rpartition("/in/")[2], line["row"], line["code"], line["reason"]) for line in lines]


def test_parquet_is_scored_in_parts_with_the_parameters_of_path_and_query(scoring):
    """Folders below the pattern stay; a part has whole row groups; a file without rows has a result without rows."""
    write_parquet(scoring.folder / "in" / "a" / "one.parquet", list(range(25_000)), row_group_size=10_000)
    write_parquet(scoring.folder / "in" / "b" / "none.parquet", [])
    run = scoring.run(
        *("--param", "region=north-", "--param", "factor=10", "--part-rows", "20000", "--row-column", "row", "--batch-rows", "3000"),
        pattern="in/**/*.parquet",
    )
    assert (run.returncode, run.stdout[:35]) == (0, "25000 rows scored in ".ljust(21) + run.stdout[21:35]), run.stderr
    assert list(scoring.files()) == ["a/one-00000.parquet", "a/one-00001.parquet", "b/none-00000.parquet"]
    rows = duckdb.sql(f"select * from '{scoring.folder}/out/a/*.parquet' order by row").fetchall()
    assert rows == [(x, x * 10 + 0.5, "north-none") for x in range(25_000)]
    assert pd.read_parquet(scoring.folder / "out" / "a" / "one-00001.parquet")["row"].tolist() == list(range(20_000, 25_000))
    empty = pq.read_table(scoring.folder / "out" / "b" / "none-00000.parquet")
    assert (empty.num_rows, empty.column_names) == (0, ["row", "y", "name"])


def test_each_format_is_read_and_written(scoring):
    """Text files are divided at records: a cell with line ends and a blank line between rows are no places to divide them."""
    folder = scoring.folder / "in"
    names = ["plain", 'two\n"lines"', "", "größe", "a,b"] * 40
    frame = pd.DataFrame({"x": range(200), "name": names, "unused": 1.5})
    frame.to_csv(folder / "a.csv", index=False, quoting=csv.QUOTE_NONNUMERIC)
    frame.to_json(folder / "b.ndjson", orient="records", lines=True, force_ascii=False)
    (folder / "c.jsonl").write_text((folder / "b.ndjson").read_text().replace("\n", "\r\n\n"))
    table = pa.Table.from_pandas(frame)
    with pa.ipc.new_file(folder / "d.arrow", table.schema) as file:
        file.write_table(table, max_chunksize=30)
    with pa.ipc.new_stream(folder / "e.arrow", table.schema) as file:
        file.write_table(table, max_chunksize=30)
    pq.write_table(table, folder / "f.parquet", row_group_size=30)
    expected = [(x * 2 + 0.5, f"r{name}") for x, name in enumerate(names)]
    readers = {
        "parquet": lambda path: list(pd.read_parquet(path).itertuples(index=False, name=None)),
        "csv": lambda path: [
            tuple(row.values()) for row in pc.read_csv(path, parse_options=pc.ParseOptions(newlines_in_values=True)).to_pylist()
        ],
        "ndjson": lambda path: [tuple(json.loads(line).values()) for line in path.read_bytes().splitlines()],
        "arrow": lambda path: [tuple(row.values()) for row in pa.ipc.open_file(path).read_all().to_pylist()],
    }
    for ending, read in readers.items():
        run = scoring.run("--param", "region=r", "--part-rows", "90", "--batch-rows", "29", output=f"{ending}/*.{ending}")
        assert run.returncode == 0, run.stderr
        parts = sorted((scoring.folder / ending).glob(f"*.{ending}"))
        for name in "abcdef":
            own = [read(path) for path in parts if path.name.startswith(f"{name}-")]
            assert len(own) >= 2, (ending, name)
            assert [row for part in own for row in part] == expected, (ending, name)


def test_an_output_may_be_one_file_which_is_never_there_incomplete(scoring):
    """A run that was killed continues; afterwards only the file is there, and that with the refused rows."""
    for i in range(4):
        write_parquet(scoring.folder / "in" / f"{i}.parquet", [*range(1000 * i, 1000 * i + 999), -3])
    write_parquet(scoring.folder / "in" / "none.parquet", [])
    words = ("--param", "region=r", "--param", "slow_s=0.1", "--batch-rows", "300")
    process = scoring.start(*words, output="out/all.csv")
    until(lambda: list(scoring.folder.glob("out/all.csv.parts/_score/parts/*")) or process.poll() is not None)
    scoring.kill(process)
    assert [path.name for path in (scoring.folder / "out").iterdir()] == ["all.csv.parts"]
    run = scoring.run(*words, output="out/all.csv")
    assert run.returncode == 0, run.stderr
    assert run.stdout.endswith("3996 results, 4 rows refused: see out/all.csv_refused.ndjson\n")
    assert sorted(scoring.files()) == ["all.csv", "all.csv_refused.ndjson"]
    assert pd.read_csv(scoring.folder / "out" / "all.csv")["y"].tolist() == [x * 2 + 0.5 for x in range(4000) if x % 1000 != 999]
    before = scoring.files()
    again = scoring.run(*words, output="out/all.csv")
    assert (again.returncode, "out/all.csv exists; name another file" in again.stderr) == (1, True), again.stderr
    assert scoring.files() == before
    assert scoring.run(*words, output="all.parquet").returncode == 0
    assert pd.read_parquet(scoring.folder / "all.parquet")["y"].tolist() == pd.read_csv(scoring.folder / "out" / "all.csv")["y"].tolist()


def test_refused_rows_are_listed_with_their_reason_and_all_others_are_scored(scoring):
    """By the schema, by the handler, by an error of the handler and by a worker that exits; in each format the same rows."""
    xs = [*range(1000)]
    xs[17], xs[18], xs[500], xs[999] = -3, -3, -5, -9
    write_parquet(scoring.folder / "in" / "a.parquet", xs)
    lines = [json.dumps({"x": x}) for x in xs]
    lines[3], lines[600], lines[601] = '{"x": "three"}', "not JSON", "{}"
    (scoring.folder / "in" / "b.ndjson").write_text("\n".join(lines))
    run = scoring.run("--param", "region=r", "--row-column", "row")
    assert run.returncode == 1, run.stderr  # the model failed for some
    assert "2000 rows scored" in run.stdout
    assert "1989 results, 11 rows refused" in run.stdout
    assert "the model failed for 4 of the refused rows" in run.stderr
    of_model = [
        (17, "rejected", "minus three is unlucky"),
        (18, "rejected", "minus three is unlucky"),
        (500, "handler_failed", "the handler raised an error; see the log of the run"),
        (999, "handler_failed", "the worker exited while it computed this row"),
    ]
    found = refused(scoring)
    assert [each for each in found if each[0] == "a.parquet"] == [("a.parquet", *each) for each in of_model]
    of_b = [each[1:] for each in found if each[0] == "b.ndjson"]
    assert [each for each in of_b if each[0] in {17, 18, 500, 999}] == of_model
    assert [each[:2] for each in of_b if each not in of_model] == [(3, "misfit"), (600, "malformed"), (601, "misfit")]
    assert [each[2] for each in of_b if each[0] == 601] == ["column 'x': the field is missing"]
    for name, gone in ("a", {17, 18, 500, 999}), ("b", {3, 17, 18, 500, 600, 601, 999}):
        rows = pq.read_table(scoring.folder / "out" / f"{name}-00000.parquet")
        assert rows["row"].to_pylist() == [row for row in range(1000) if row not in gone]
        assert rows["y"].to_pylist() == [x * 2 + 0.5 for row, x in enumerate(xs) if row not in gone]


def test_a_run_that_is_killed_at_any_moment_continues_and_has_the_same_files(scoring):
    """Parts that were done are not computed again, nor is anything of a finished run."""
    for i in range(3):
        write_parquet(scoring.folder / "in" / f"{i}.parquet", [*range(5000), -3], row_group_size=500)
    (scoring.folder / "in" / "text.csv").write_text("x\n" + "\n".join(map(str, [*range(3000), "bad"])))
    words = ("--param", "region=r", "--param", "slow_s=0.02", "--part-rows", "500", "--batch-rows", "100", "--workers", "2")
    whole = scoring.run(*words, output="whole")
    assert whole.returncode == 0, whole.stderr
    expected = scoring.files("whole")
    assert len(expected) == 3 * 11 + 6 + 2
    chance, kills = random.Random(7), 0
    while kills < 3:
        process = scoring.start(*words)
        before = len(scoring.files())
        deadline_s = time.monotonic() + 60
        while process.poll() is None and len(scoring.files()) <= before and time.monotonic() < deadline_s:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.3))
        if kills == 1:  # Ctrl-C and SIGTERM leave nothing behind, and say how to go on
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=60)
            assert (process.returncode, "run the same command again to continue" in err) == (130, True), err
            assert not list((scoring.folder / "tmp").iterdir())
        ended = process.poll() is not None and kills != 1
        scoring.kill(process)
        kills += 1
        if ended:
            break
    last = scoring.run(*words)
    assert last.returncode == 0, last.stderr
    assert scoring.files() == expected
    stamps = {path: path.stat().st_mtime_ns for path in (scoring.folder / "out").glob("*.parquet")}
    again = scoring.run(*words)
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith("18004 rows were scored before, and none is left, 18000 results,")
    assert again.stdout.split(" results")[1] == ", 4 rows refused: see out/_refused.ndjson\n"
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert not list((scoring.folder / "out" / "_score").glob("aside/*"))
    until(lambda: not list((scoring.folder / "tmp").iterdir()))


def test_an_output_of_something_else_is_never_written_to(scoring):
    """A folder with other files; a run with other parameters, another model, or inputs that have changed, gone or come."""
    write_parquet(scoring.folder / "in" / "a.parquet", [1, 2])
    (scoring.folder / "mine").mkdir()
    (scoring.folder / "mine" / "notes.txt").write_text("keep")
    run = scoring.run("--param", "region=r", output="mine")
    assert (run.returncode, "the output is not empty: it has notes.txt" in run.stderr) == (1, True), run.stderr
    assert scoring.files("mine") == {"notes.txt": b"keep"}
    assert scoring.run("--param", "region=r").returncode == 0
    before = scoring.files()

    def refusal(*words):
        run = scoring.run("--param", "region=r", *words)
        assert run.returncode == 1
        assert scoring.files() == before
        return run.stderr

    assert "parameters was" in refusal("--param", "factor=3")
    write_parquet(scoring.folder / "in" / "b.parquet", [3])
    assert "in/b.parquet is new" in refusal()
    (scoring.folder / "in" / "b.parquet").unlink()
    write_parquet(scoring.folder / "in" / "a.parquet", [1, 3])
    assert "in/a.parquet has changed" in refusal()
    (scoring.folder / "in" / "a.parquet").rename(scoring.folder / "in" / "c.parquet")
    assert "in/a.parquet is missing; " in refusal()


def test_what_cannot_be_scored_is_an_error_that_names_it(scoring):
    """Before anything is written."""
    write_parquet(scoring.folder / "in" / "a.parquet", [1, 2])
    pq.write_table(pa.table({"z": [1]}), scoring.folder / "in" / "z.other.parquet")
    (scoring.folder / "in" / "broken.parquet").write_bytes(b"PAR1 no PAR1")
    (scoring.folder / "in" / "text.txt").write_text("x\n1\n")
    region = ("--param", "region=r")
    cases = [
        ("no file matches in/*.nothing", region, {"pattern": "in/*.nothing"}),
        ("text.txt must end in one of .parquet", region, {"pattern": "in/*"}),
        ("broken.parquet is damaged", region, {"pattern": "in/broken.parquet"}),
        ("z.other.parquet: column 'x': the field is missing", region, {"pattern": "in/z*.parquet"}),
        ("--param region: the parameter is missing", (), {"pattern": "in/a.parquet"}),
        ("--param region: the parameter is given 2 times", (*region, "--param", "region=s"), {"pattern": "in/a.parquet"}),
        ("--param region=a/b: not an admissible value", ("--param", "region=a/b"), {"pattern": "in/a.parquet"}),
        ("factor: Input should be a valid integer", (*region, "--param", "factor=x"), {"pattern": "in/a.parquet"}),
        ("--param region: no such parameter", region, {"pattern": "in/a.parquet", "endpoint": "whole"}),
        (
            "no endpoint 'nope'; name one of groups (/groups), predict (/tiny/{region}), ",
            (),
            {"pattern": "in/a.parquet", "endpoint": "nope"},
        ),
        ("answers in parts", (), {"pattern": "in/a.parquet", "endpoint": "stream"}),
        ("must be a folder, or end in one of /*.parquet", region, {"pattern": "in/a.parquet", "output": "out/*.xlsx"}),
    ]
    for text, words, options in cases:
        run = scoring.run(*words, **options)
        assert text in run.stderr, run.stderr
        assert run.returncode == 1
        assert "Traceback" not in run.stderr
        assert scoring.files(options.get("output", "out").removesuffix("/*.xlsx")) == {}
    assert "has no value; write NAME=VALUE" in scoring.run("--param", "region").stderr


def test_an_endpoint_that_takes_whole_requests_is_called_once_for_each_file(scoring):
    """Its answers may have any number of rows; a file that does not fit is refused as a whole."""
    write_parquet(scoring.folder / "in" / "a.parquet", [1, 2, 3], row_group_size=1)
    (scoring.folder / "in" / "b.csv").write_text("x\n10\n20\n")
    (scoring.folder / "in" / "c.csv").write_text("x\n10\nten\n")
    run = scoring.run("--batch-rows", "1", "--part-rows", "1", endpoint="/whole")
    assert run.returncode == 0, run.stderr
    read = {path.name: pl.read_parquet(path).rows() for path in (scoring.folder / "out").glob("*.parquet")}
    assert read["a-00000.parquet"] == [("rows", 3), ("sum", 6)]
    assert read["b-00000.parquet"] == [("rows", 2), ("sum", 30)]
    assert read.keys() == {"a-00000.parquet", "b-00000.parquet"}  # it declares no results, so nobody knows the columns of no result
    assert [each[:3] for each in refused(scoring)] == [("c.csv", 1, "misfit")]


def test_an_endpoint_that_groups_rows_answers_each_file_without_the_groups_that_fail(scoring):
    """All rows of a group that fails are refused. A group that ends its worker is found, too."""
    rows = [(1, "a"), (2, "b"), (-3, "b"), (4, "a"), (-9, "c"), (6, "d")]
    table = pa.table({"x": [x for x, _ in rows], "name": [name for _, name in rows]})
    pq.write_table(table, scoring.folder / "in" / "a.parquet", row_group_size=2)
    write_parquet(scoring.folder / "in" / "b.parquet", [-3, -3])
    run = scoring.run(endpoint="groups", pattern="in/*.parquet")
    assert run.returncode == 1, run.stderr
    found = pl.read_parquet(scoring.folder / "out" / "a-00000.parquet")
    assert sorted(found.select("name", "sum").rows()) == [("a", 5), ("d", 6)]
    assert refused(scoring) == [
        ("a.parquet", 1, "rejected", "minus three is unlucky"),
        ("a.parquet", 2, "rejected", "minus three is unlucky"),
        ("a.parquet", 4, "handler_failed", "the worker exited while it computed this row"),
        ("b.parquet", 0, "rejected", "minus three is unlucky"),
        ("b.parquet", 1, "rejected", "minus three is unlucky"),
    ]


@pytest.fixture(params=["s3", "az"])
def bucket(request, tmp_path, monkeypatch):
    """Returns the URL of an empty bucket of a server on loopback, to which the environment leads."""
    with servers.store(request.param, tmp_path) as url:
        servers.make_bucket(request.param, url, "files")
        for name, value in servers.store_environment(request.param, url, tmp_path).items():
            monkeypatch.setenv(name, value)
        yield f"{request.param}://files"


def test_objects_are_scored_into_a_store_and_a_run_that_was_killed_continues(bucket, scoring):
    """The patterns match as they do in folders."""
    store = from_url(bucket)
    for name, xs in ("in/a/1.parquet", [*range(300), -3]), ("in/2.parquet", [7]), ("in/.hidden.parquet", [8]), ("in2/3.parquet", [9]):
        sink = io.BytesIO()
        pq.write_table(pa.table({"x": pa.array(xs, pa.int64())}), sink, row_group_size=50)
        obstore.put(store, name, sink.getvalue())
    obstore.put(store, "in/text.csv", b"x\n1\nbad\n3\n")
    words = ("--param", "region=r", "--part-rows", "50", "--param", "slow_s=0.1", "--input", f"{bucket}/in/text.csv")
    options = {"pattern": f"{bucket}/in/**/*.parquet", "output": f"{bucket}/out/all"}

    def names():
        return sorted(each["path"] for page in obstore.list(store, prefix="out/all") for each in page)

    process = scoring.start(*words, **options)
    until(lambda: len(names()) > 4 or process.poll() is not None)
    scoring.kill(process)
    done = {name: obstore.head(store, name)["last_modified"] for name in names() if "/parts/" in name}
    run = scoring.run(*words, **options)
    assert run.returncode == 0, run.stderr
    assert "305 rows scored" in run.stdout
    results = [name.removeprefix("out/all/") for name in names() if "_score" not in name]
    assert results == ["2-00000.parquet", "_refused.ndjson", *(f"a/1-{i:05}.parquet" for i in range(7)), "text-00000.parquet"]
    found = [pq.read_table(io.BytesIO(obstore.get(store, f"out/all/a/1-{i:05}.parquet").bytes()))["y"].to_pylist() for i in range(7)]
    assert list(chain.from_iterable(found)) == [x * 2 + 0.5 for x in range(300)]
    lines = bytes(obstore.get(store, "out/all/_refused.ndjson").bytes()).splitlines()
    refused = [(json.loads(line)["file"], json.loads(line)["row"]) for line in lines]
    assert refused == [(f"{bucket}/in/a/1.parquet", 300), (f"{bucket}/in/text.csv", 1)]
    assert {name: obstore.head(store, name)["last_modified"] for name in done} == done
    obstore.put(store, "in/2.parquet", b"other")
    changed = scoring.run(*words, **options)
    assert (changed.returncode, "in/2.parquet has changed" in changed.stderr) == (1, True), changed.stderr


def test_a_full_disk_ends_the_run_which_continues_once_there_is_room(scoring):
    write_parquet(scoring.folder / "in" / "a.parquet", list(range(200_000)), row_group_size=20_000)
    words = ("--param", "region=r", "--part-rows", "20000")
    with mounted(scoring.folder / "small") as disk:
        disk.fill(but_bytes=500_000)
        full = scoring.run(*words, output="small/out")
        assert full.returncode == 1, full.stderr
        assert "No space left on device" in full.stderr
        assert "Traceback" not in full.stderr
        disk.empty()
        assert scoring.run(*words, output="small/out").returncode == 0
        assert len(scoring.files("small/out")) == 10
        found = duckdb.sql(f"select y from read_parquet('{scoring.folder}/small/out/*.parquet', filename = true) order by filename")
        assert [y for (y,) in found.fetchall()] == [x * 2 + 0.5 for x in range(200_000)]
