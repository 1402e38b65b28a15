"""A supervisor whose requests become jobs, and two clients with API keys."""

import os
import signal
from pathlib import Path

import httpx

from operated_supervisor import Operated
from process_children import children
from runtime.http.api_keys import make_key
from tinypex import write_tiny

ASYNC = {"prefer": "respond-async"}

MODEL = """
    import pathlib, time
    import polars as pl
    import base.service as svc
    from base.schema import Schema

    GATES = pathlib.Path("FOLDER")

    class Row(Schema):
        x: pl.Int64

    class Options(svc.Parameters):
        factor: int = 2
        gate: str = ""

    @svc.endpoint("/study", JOB)
    def predict(records_df: Row.DataFrame, options: Options, context: svc.Context):
        context.progress(0.5, "half of it")
        while options.gate and not (GATES / options.gate).exists():
            if context.cancelled():
                break
            time.sleep(0.01)
        if options.factor < 0:
            raise ValueError("a secret of the author")
        return pl.DataFrame({"x": records_df["x"], "product": records_df["x"] * options.factor})
"""

STREAMS = """
    import pathlib, time
    from collections.abc import Iterator
    import polars as pl
    import base.service as svc
    from base.errors import Reject
    from base.schema import Schema

    class Part(Schema):
        part: pl.Int64

    @svc.endpoint("/words")
    def words(records_df: pl.DataFrame):
        for word in ("one", "two"):
            yield {"word": word}

    GATES = pathlib.Path("FOLDER")

    class Gate(svc.Parameters):
        gate: str

    class Answer(svc.Parameters):
        status: int
        media_type: str = ""
        size: int = 0

    @svc.endpoint("/raw", raw=True, warm_up=False)
    def raw(body: bytes, answer: Answer):
        if answer.status >= 400:
            raise Reject(answer.status, "as was asked for")
        return svc.Response(b"x" * answer.size, answer.media_type, status=answer.status)

    @svc.endpoint("/times/{k}")
    def times(records_df: pl.DataFrame, k: int):
        return records_df["x"] * k

    class Sold(Schema):
        shop: pl.String
        x: pl.Int64

    @svc.endpoint("/shops", group_by=["shop"])
    def shops(records_df: Sold.DataFrame):
        if records_df["x"][0] < 0:
            raise Reject(422, "less than nothing was sold")
        return records_df

    @svc.endpoint("/stubborn")
    def stubborn(records_df: pl.DataFrame, options: Gate):
        while not (GATES / options.gate).exists():
            time.sleep(0.01)
        return records_df

    @svc.endpoint("/parts")
    def parts(records_df: pl.DataFrame) -> Iterator[Part.DataFrame]:
        for part in range(3):
            if records_df.height > 1 and part == 2:
                raise ValueError("after two parts")
            yield pl.DataFrame({"part": [part]})
"""


class JobClients:
    """A supervisor with two clients, and gates at which its jobs wait.

    Attributes:
        ann: A client with an API key.
        ben: Another one.
    """

    def __init__(self, folder, **settings):
        self.gates, self._number = folder / "gates", 0
        self.gates.mkdir()
        (key, line), (other_key, other_line) = make_key("ann"), make_key("ben")
        (folder / "keys").write_text(f"{line}\n{other_line}\n")
        self.run = Operated(
            folder,
            api_keys_path=folder / "keys",
            body_max_bytes=100_000,
            job_body_max_bytes=1_000_000,
            job_workers=2,
            job_worker_nice=0,  # or they wait long for a processor of a busy machine
            front_doors=1,
            **{"job_streams_max": 2} | settings,
        )
        for name, job in (("study", ""), ("always", "job=True")):
            source = MODEL.replace("JOB", job).replace("FOLDER", str(self.gates)).replace("/study", f"/{name}")
            write_tiny(self.run.dist / f"{name}.pex", name, module=source)
        write_tiny(
            self.run.dist / "streams.pex",
            "streams",
            module=STREAMS.replace("FOLDER", str(self.gates)),
            endpoints=("words", "raw", "times", "shops", "stubborn", "parts"),
        )
        self.keys = key, other_key

    def __enter__(self):
        self.run.__enter__()
        for name in ("study", "always", "streams"):
            self.run.until_state(f"{name}.pex", "ready")
        self.address = self.run.state()["address"]
        self.ann, self.ben = (
            httpx.Client(base_url=self.address, headers={"authorization": f"Bearer {key}"}, timeout=60) for key in self.keys
        )
        return self

    def __exit__(self, *error):
        for client in (self.ann, self.ben):
            client.close()
        self.run.__exit__(*error)

    def new_gate(self):
        """Returns a gate that is closed."""
        self._number += 1
        return self.gates / f"gate-{self._number}"

    def submit(self, query="", rows=({"x": 1}, {"x": 20}), path="/study", **headers):
        answer = self.ann.post(path + query, json=list(rows), headers=ASYNC | headers)
        assert answer.status_code == 202, answer.text
        return answer.json()["id"]

    def until(self, job_id, *states):
        def reached():
            found = self.ann.get(f"/jobs/{job_id}").json()
            return found if found["state"] in states else None

        return self.run.until(reached)

    def incoming(self):
        folder = self.run.settings["state_path"] / "jobs" / "incoming"
        return list(folder.iterdir()) if folder.exists() else []

    def runner_pid(self):
        (pid,) = [pid for pid in children(self.run.process.pid) if b"runtime.job_runner" in command_of(pid)]
        return pid

    def kill_runner(self):
        """Kills the job runner at once."""
        pid = self.runner_pid()
        os.kill(pid, signal.SIGKILL)
        self.run.until(lambda: b"runtime.job_runner" not in command_of(pid))


def command_of(pid):
    """Returns the command line of a process; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
