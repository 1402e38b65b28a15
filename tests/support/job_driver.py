"""Submits jobs to a job runner over its socket, as a front door does, and waits for what becomes of them."""

import asyncio
import contextlib
import hashlib
import json
import time
from pathlib import Path

import pyarrow as pa

from operated_supervisor import Operated
from runtime.jobs.client import JobClient
from runtime.jobs.documents import JobDocument
from runtime.jobs.files import JobFiles
from runtime.jobs.job import JobState, Submission
from runtime.jobs.messages import CancelJob, FindResult, GetJob, JobFound, JobRequest, JobsFound, ListJobs, ResultFound, SubmitJob
from tinypex import ROOT, write_tiny

LABOUR = (ROOT / "tests/models/labour.py").read_text()
"""The module of the model `labour`."""

FINAL = {state for state in JobState if state.is_final}

ASK_S = 60.0
"""Time limit of a question. The runner may be restarting, on a busy machine."""


class Jobs:
    """The jobs of the supervisor whose folders these are."""

    def __init__(self, state_path: Path, run_path: Path) -> None:
        self.files = JobFiles(state_path)
        self._socket = str(run_path / "jobs.sock")

    def ask(self, request: JobRequest, kind: type):
        return asyncio.run(JobClient(self._socket, ASK_S).ask(request, kind))

    def submit(self, model: str, target: str, body: object, *, client: str = "", job_id: str | None = None, **headers: str) -> JobDocument:
        encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
        with self.files.new_body() as incoming:
            incoming.file.write(encoded)
            incoming.sync()
            submission = Submission(
                client=client,
                id=job_id,
                model=model,
                target=target,
                headers={"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()},
                body_file=incoming.name,
                body_bytes=len(encoded),
                digest=hashlib.sha256(target.encode() + b"\0" + encoded).hexdigest(),
            )
            return self.ask(SubmitJob(submission), JobFound).document

    def get(self, job_id: str, client: str = "") -> JobDocument:
        return self.ask(GetJob(client, job_id), JobFound).document

    def cancel(self, job_id: str, client: str = "") -> JobDocument:
        return self.ask(CancelJob(client, job_id), JobFound).document

    def list(self, *states: JobState) -> list[JobDocument]:
        return self.ask(ListJobs(None, list(states), count_max=1000), JobsFound).documents

    def result(self, job_id: str, client: str = "") -> bytes:
        return Path(self.ask(FindResult(client, job_id), ResultFound).path).read_bytes()

    def until(self, job_id: str, *states: JobState, deadline_s: float = 60.0) -> JobDocument:
        """Waits until a job is in one of these states; in a final one if none is named."""
        wanted = set(states) or FINAL
        end = time.monotonic() + deadline_s
        while (job := self.get(job_id)).state not in wanted:
            assert not job.state.is_final, job
            assert time.monotonic() < end, job
            time.sleep(0.02)
        return job


class Labour:
    """A supervisor of the model `labour`, and its jobs."""

    def __init__(self, folder, **settings):
        self.folder = folder
        # On a busy machine, a nice worker would take minutes to start.
        self.run = Operated(folder, **{"job_worker_nice": 0, "start_parallel": 4} | settings)
        self.old = self.write("0.1.0")
        self.jobs = Jobs(folder / "state", self.run.run_path)
        self._count = 0

    def write(self, version):
        """Writes the pex of a version into dist/, and returns its path."""
        module = LABOUR.replace("FOLDER", str(self.folder)).replace("VERSION", version)
        path = self.run.dist / f"labour-{version}.pex"
        return write_tiny(path, "labour", version, module, endpoints=("labour", "rows", "groups", "parts", "raw", "once"))

    def __enter__(self):
        self.run.__enter__()
        return self

    def __exit__(self, *error):
        self.run.__exit__(*error)

    def submit(self, do, target="/labour", **more):
        """Returns a new job, and the start of the paths of its files."""
        self._count += 1
        mark = self.folder / f"job{self._count}"
        return self.jobs.submit("labour", target, [{"do": do, "mark": str(mark)}], **more), mark

    def begun(self, mark):
        """Returns the processes in which a job has begun."""
        path = Path(f"{mark}.begun")
        return path.read_text().split() if path.exists() else []

    def until_begun(self, mark, count=1):
        return self.run.until(lambda: len(self.begun(mark)) >= count)

    def runner_pid(self):
        """Returns the process id of the job runner."""
        return next(pid for pid, command, _ in self._children() if b"runtime.job_runner" in command)

    def job_worker_pids(self):
        """Returns the process ids of the job workers, which report no slow turns of their loops."""
        return [pid for pid, _, environment in self._children() if b"PEXDOCK_LOOP_TURN_WARN_MS=0" in environment]

    def _children(self):
        for path in Path(f"/proc/{self.run.process.pid}/task").glob("*/children"):
            for pid in path.read_text().split():
                with contextlib.suppress(OSError):
                    yield int(pid), Path(f"/proc/{pid}/cmdline").read_bytes(), Path(f"/proc/{pid}/environ").read_bytes()

    def did(self, job):
        return pa.ipc.open_stream(self.jobs.result(job.id)).read_all().to_pylist()
