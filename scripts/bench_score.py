"""Measures `pexdock score` against plain pyarrow loops over the same files with the same model, one loop for each worker, side by side.

The rate that is wanted is 90 % of that of the loops. One loop alone, times the workers, is no fair measure: it has the caches and the
memory of the machine for itself. On a machine that does other work, too, the rates depend on that work. So the processor time for a
million rows is measured as well, of all processes together.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

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
    for batch in file.iter_batches(8192, columns=list("abcdefgh"), use_threads=False):
        table = compute(pl.DataFrame(batch)).to_arrow()
        writer = writer or pq.ParquetWriter(f"{sys.argv[2]}/{path.name}", table.schema)
        writer.write_table(table)
    writer.close()
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
    parser.add_argument("--hidden", type=int, default=256, help="work for each row")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks/score.json"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_linked_base(folder / "dist" / "base.pex")
        module = MODEL.replace("HIDDEN", str(given.hidden))
        write_tiny(folder / "dist" / "tiny.pex", "tiny", module=module)
        (folder / "tiny_model.py").write_text("\n".join(line.removeprefix("    ") for line in module.splitlines()))
        (folder / "loop.py").write_text(LOOP)
        _write_files(folder / "in", given.files, given.rows)
        (folder / "empty").mkdir()
        for each in range(given.workers):
            pq.write_table(pq.read_table(folder / "in" / "0.parquet").slice(0, 1), folder / "empty" / f"{each}.parquet")
        own = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1", "PYTHONPATH": f"{Path.cwd()}:{folder}"}
        environment = os.environ | own | {"PEXDOCK_CACHE_PATH": str(folder / "cache")}
        score = [sys.executable, "-m", "runtime", "score", "dist/tiny.pex", "--workers", str(given.workers)]
        rows = given.files * given.rows / 1e6
        rounds = []
        for _ in range(given.rounds):
            times: dict[str, tuple[float, float]] = {}
            for source in ("empty", "in"):  # the difference is the work, without the start of the processes
                loops = [[sys.executable, "loop.py", source, "out", str(each), str(given.workers)] for each in range(given.workers)]
                scores = [[*score, "--input", f"{source}/*.parquet", "--output", "out"]]
                for kind, commands in (("loop", loops), ("score", scores)):
                    shutil.rmtree(folder / "out", ignore_errors=True)
                    if kind == "loop":
                        (folder / "out").mkdir()
                    times[f"{kind} {source}"] = _measure(commands, folder, environment)
            work = {
                kind: [full - start for full, start in zip(times[f"{kind} in"], times[f"{kind} empty"], strict=True)]
                for kind in ("loop", "score")
            }
            rounds.append(
                {
                    "loop_rows_per_s": round(1e6 * rows / work["loop"][0]),
                    "score_rows_per_s": round(1e6 * rows / work["score"][0]),
                    "rate_of_wanted": round(work["loop"][0] / work["score"][0], 3),
                    "loop_cpu_s_per_million": round(work["loop"][1] / rows, 3),
                    "score_cpu_s_per_million": round(work["score"][1] / rows, 3),
                    "cpu_of_wanted": round(work["loop"][1] / work["score"][1], 3),
                }
            )
            print(json.dumps(rounds[-1]))
    result = {"workers": given.workers, "cores": os.cpu_count(), "rows": round(1e6 * rows), "hidden": given.hidden, "rounds": rounds}
    given.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
