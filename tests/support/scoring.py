"""Runs `pexdock score` as people do, with a model and a base that are made in milliseconds."""

import contextlib
import os
import signal
import subprocess
import sys

from tinypex import ROOT, write_linked_base, write_tiny

MODEL = """
    import os, signal, time
    from pathlib import Path

    import polars as pl
    import base.service as svc
    from base.errors import Reject
    from base.schema import Schema

    class Row(Schema):
        x: pl.Int64
        name: pl.String = "none"

    class Result(Schema):
        y: pl.Float64
        name: pl.String

    class Options(svc.Parameters):
        factor: int = 2
        slow_s: float = 0.0

    @svc.endpoint(path="/tiny/{region}")
    def predict(rows: Row.DataFrame, options: Options, region: str) -> Result.DataFrame:
        time.sleep(options.slow_s)
        x = rows["x"]
        if (x == -9).any():
            os.kill(os.getpid(), signal.SIGKILL)
        if (x == -5).any():
            raise ValueError("this row is too much")
        if unlucky := (x == -3).arg_true().to_list():
            raise Reject(422, "minus three is unlucky", unlucky)
        return rows.select(y=x * options.factor + 0.5, name=pl.lit(region) + pl.col("name"))

    @svc.endpoint(path="/whole", batched=False)
    def whole(rows: Row.DataFrame):
        return pl.DataFrame({"name": ["rows", "sum"], "value": [rows.height, rows["x"].sum()]})

    @svc.endpoint(path="/groups", group_by=["name"])
    def groups(rows: Row.DataFrame):
        if (rows["x"] == -9).any():
            os.kill(os.getpid(), signal.SIGKILL)
        if unlucky := (rows["x"] == -3).arg_true().to_list():
            raise Reject(422, "minus three is unlucky", unlucky)
        return {"sum": rows["x"].sum()}

    @svc.endpoint(path="/stream")
    def stream(rows: Row.DataFrame):
        yield rows["x"]
"""


class Scoring:
    """A folder with a model, its base and files, in which the command runs."""

    def __init__(self, folder, module=MODEL, endpoints=("predict", "whole", "groups", "stream")):
        self.folder = folder
        write_linked_base(folder / "dist" / "base.pex")
        self.model = write_tiny(folder / "dist" / "tiny.pex", "tiny", module=module, endpoints=endpoints)
        (folder / "in").mkdir()
        (folder / "tmp").mkdir()

    @property
    def environment(self):
        own = {"PYTHONPATH": ROOT, "PEXDOCK_CACHE_PATH": self.folder / "cache", "TMPDIR": self.folder / "tmp"}
        others = {name: value for name, value in os.environ.items() if not name.startswith("PEXDOCK_")}
        return others | {name: str(value) for name, value in own.items()}

    def start(self, *words, endpoint="predict", pattern="in/*", output="out", prefix=()):
        words = words if "--workers" in words else ("--workers", "1", *words)
        command = [
            *prefix,
            sys.executable,
            "-m",
            "runtime",
            "score",
            str(self.model),
            endpoint,
            "--input",
            pattern,
            "--output",
            output,
            *words,
        ]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True)

    def run(self, *words, timeout_s=120, **options):
        """Returns the finished process, with its output."""
        process = self.start(*words, **options)
        try:
            out, err = process.communicate(timeout=timeout_s)
        finally:
            self.kill(process)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def kill(self, process):
        """Kills the command like a machine that loses its power; its workers notice by themselves."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdout, process.stderr):
            pipe.close()

    def files(self, output="out"):
        """Returns the content of each file of results, without the journal."""
        folder = self.folder / output
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and "_score" not in path.parts
        }
