"""Measures `pexdock score` against plain pyarrow loops over the same files with the same model and as many rows a call.

The rate that is wanted is 90 % of that of one loop, times the workers. One loop alone has the caches and the memory of the machine
for itself, so as many loops as workers are measured side by side as well. On a machine that does other work, too, the rates depend on
that work: the processor time for a million rows, of all processes together, does so less. What processes take to start is measured with
files of one row, and subtracted.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmark import machine
from tinypex import write_linked_base, write_tiny

MODEL = """
    import numpy as np
    import polars as pl
    import base.service as svc
    from base.schema import Schema

    WEIGHTS = np.random.default_rng(7).normal(size=(8, HIDDEN)).astype(np.float32)

    class Row(Schema):
        a: pl.Float64
        b: pl.Float64
        c: pl.Float64
        d: pl.Float64
        e: pl.Float64
        f: pl.Float64
        g: pl.Float64
        h: pl.Float64

    class Result(Schema):
        score: pl.Float64

    def compute(frame):
        hidden = np.tanh(frame.to_numpy().astype(np.float32) @ WEIGHTS)
        return pl.DataFrame({"score": hidden.sum(axis=1).astype(np.float64)})

    @svc.endpoint(path="/tiny")
    def predict(rows: Row.DataFrame) -> Result.DataFrame:
        return compute(rows)
"""

LOOP = """
import sys
from pathlib import Path
import polars as pl, pyarrow as pa, pyarrow.parquet as pq
from tiny_model import compute
for path in sorted(Path(sys.argv[1]).glob("*.parquet"))[int(sys.argv[3])::int(sys.argv[4])]:
    file, writer = pq.ParquetFile(path), None
    for batch in file.iter_batches(int(sys.argv[5]), columns=list("abcdefgh"), use_threads=False):
        table = compute(pl.DataFrame(batch)).to_arrow()
        writer = writer or pq.ParquetWriter(f"{sys.argv[2]}/{path.name}", table.schema)
        writer.write_table(table)
    writer.close()
"""


KINDS = ("one loop", "loops", "score")

TEXT = """# Scoring files

`scripts/bench-score` writes this page: `pexdock score` against plain pyarrow loops that read, compute and write the same files with
the same model, {rows:,} rows of eight columns in calls of {batch_rows:,}. `pexdock score` has {workers} workers; `loops` are as many
loops side by side. The model multiplies a row by a matrix of 8 by the given number. Medians of all rounds, without the start of the
processes; in parentheses the lowest and the highest.

| matrix | what | million rows/s | processor seconds for a million rows | share of one loop × workers | share of the loops |
|---|---|---|---|---|---|
{lines}

## Machine

{facts}
"""


def _measure(commands: list[list[str]], folder: Path, environment: dict[str, str]) -> tuple[float, float]:
    """Returns the seconds that commands take side by side, and the processor seconds of all their processes."""
    before, began_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    running = [subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL) for command in commands]
    if any([process.wait() for process in running]):  # noqa: C419 - of each
        raise SystemExit("a command failed; see its output")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.monotonic() - began_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _write_files(folder: Path, files: int, rows: int) -> None:
    folder.mkdir()
    chance = np.random.default_rng(1)
    for number in range(files):
        table = pa.table({name: chance.normal(size=rows) for name in "abcdefgh"})
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=100_000)


def main() -> None:
    """Measures, and prints and writes the results."""
    parser = argparse.ArgumentParser(prog="scripts/bench-score", description=__doc__)
    parser.add_argument("--rows", type=int, default=400_000, help="rows of a file")
    parser.add_argument("--files", type=int, default=10)
    parser.add_argument("--hidden", type=int, nargs="+", default=[256, 1024], help="sizes of the model, which decide how long a row takes")
    parser.add_argument("--batch-rows", type=int, default=32_768, help="rows of a call, of all")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks/score.md"))
    given = parser.parse_args()
    facts = "\n".join(f"- {name}: {value}" for name, value in machine.facts().items())
    lines = []
    for hidden in given.hidden:
        with tempfile.TemporaryDirectory() as name:
            rounds = _measure_model(Path(name), hidden, given)
        found = {kind: tuple(statistics.median(column) for column in zip(*(each[kind] for each in rounds), strict=True)) for kind in KINDS}
        of_one = [each["score"][0] / (given.workers * each["one loop"][0]) for each in rounds]
        of_many = [each["score"][0] / each["loops"][0] for each in rounds]
        lines += [f"| {hidden} | {kind} | {rate / 1e6:.2f} | {cpu:.2f} | | |" for kind, (rate, cpu) in found.items() if kind != "score"]
        rate, cpu = found["score"]
        lines.append(f"| {hidden} | `pexdock score` | {rate / 1e6:.2f} | {cpu:.2f} | {_shares(of_one)} | {_shares(of_many)} |")
    text = TEXT.format(
        rows=given.files * given.rows, batch_rows=given.batch_rows, workers=given.workers, lines="\n".join(lines), facts=facts
    )
    given.output.write_text(text)
    print(text)


def _shares(found: list[float]) -> str:
    return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"


def _measure_model(folder: Path, hidden: int, given: argparse.Namespace) -> list[dict[str, tuple[float, float]]]:
    """Returns rows a second and processor seconds for a million rows, of each kind in each round."""
    write_linked_base(folder / "dist" / "base.pex")
    module = MODEL.replace("HIDDEN", str(hidden))
    write_tiny(folder / "dist" / "tiny.pex", "tiny", module=module)
    (folder / "tiny_model.py").write_text("\n".join(line.removeprefix("    ") for line in module.splitlines()))
    (folder / "loop.py").write_text(LOOP)
    _write_files(folder / "in", given.files, given.rows)
    (folder / "empty").mkdir()
    for each in range(given.workers):
        pq.write_table(pq.read_table(folder / "in" / "0.parquet").slice(0, 1), folder / "empty" / f"{each}.parquet")
    own = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1", "PYTHONPATH": f"{Path.cwd()}:{folder}"}
    environment = os.environ | own | {"PEXDOCK_CACHE_PATH": str(folder / "cache")}
    rows, calls = given.files * given.rows, str(given.batch_rows)
    score = [sys.executable, "-m", "runtime", "score", "dist/tiny.pex", "--workers", str(given.workers), "--batch-rows", calls]

    def commands(kind: str, source: str) -> list[list[str]]:
        if kind == "score":
            return [[*score, "--input", f"{source}/*.parquet", "--output", "out"]]
        loops = given.workers if kind == "loops" else 1
        return [[sys.executable, "loop.py", source, "out", str(each), str(loops), calls] for each in range(loops)]

    rounds = []
    for _ in range(given.rounds):
        found = {}
        for kind in KINDS:
            times = {}
            for source in ("empty", "in"):
                shutil.rmtree(folder / "out", ignore_errors=True)
                if kind != "score":
                    (folder / "out").mkdir()
                times[source] = _measure(commands(kind, source), folder, environment)
            seconds, cpu_s = (full - start for full, start in zip(times["in"], times["empty"], strict=True))
            found[kind] = rows / seconds, 1e6 * cpu_s / rows
        rounds.append(found)
        print(hidden, {kind: (round(rate), round(cpu, 3)) for kind, (rate, cpu) in found.items()}, flush=True)
    return rounds


if __name__ == "__main__":
    main()
