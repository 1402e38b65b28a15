"""The servers to compare: their settings, formats and start commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmark import forms
from benchmark.pexdock import HERE, MODEL, ROOT, command_line, environment
from benchmark.processes import descendants, free_port, keep_nice, started, wait_for


class Server(NamedTuple):
    """A server with one set of settings.

    Attributes:
        name: Unique name; `--only` selects by its beginning.
        peer: Folder in peers/ and environment in .venv/peers/; "pexdock" is this tree.
        settings: Differences from its defaults, for the report.
        path: Path of predictions.
        batch: Most requests in a batch; 1 disables batching. For Pexdock the model sets it.
        answers: False if it returns a constant, which cannot be verified.
    """

    name: str
    peer: str
    settings: str
    form: forms.Form = forms.RECORDS
    path: str = "/predict"
    batch: int = 1
    answers: bool = True

    @property
    def distribution(self) -> str:
        """Returns the package whose version is that of the product."""
        return DISTRIBUTIONS.get(self.peer, self.peer)

    @property
    def product(self) -> str:
        """Returns the name without settings."""
        return self.name.partition(",")[0]


TENSOR_PATH = "/v2/models/predict/infer"

DISTRIBUTIONS = {"triton": "nvidia-pytriton"}

ONE = "1 worker, no batches"

SERVERS = (
    Server("Pexdock", "pexdock", "defaults: 1 front door, 1 worker, batches of up to 64 rows"),
    Server("bare uvicorn", "uvicorn", "uvloop, httptools, no access log; answers with a constant, so it is no model server", answers=False),
    Server("Mosec", "mosec", f"{ONE}; JSON by msgspec instead of its default", path="/inference"),
    Server("Mosec, batches", "mosec", "1 worker, max_batch_size=64, max_wait_time=1 ms; JSON by msgspec", path="/inference", batch=64),
    Server("Triton", "triton", f"Python backend, {ONE}; tritonserver of the wheel nvidia-pytriton", forms.TENSOR, TENSOR_PATH),
    Server("Triton, batches", "triton", "Python backend, 1 worker, dynamic_batching without delay", forms.TENSOR, TENSOR_PATH, 64),
    Server("LitServe", "litserve", f"{ONE}, 1 API server, fast_queue"),
    Server("LitServe, batches", "litserve", "1 worker, 1 API server, fast_queue, max_batch_size=64, batch_timeout=1 ms", batch=64),
    Server("MLServer", "mlserver", "its scikit-learn runtime, parallel_workers=0, no batches", forms.TENSOR, TENSOR_PATH),
    Server("MLServer, batches", "mlserver", "as before, max_batch_size=64, max_batch_time=1 ms", forms.TENSOR, TENSOR_PATH, 64),
    Server("BentoML", "bentoml", ONE, forms.ARRAY),
    Server("BentoML, batches", "bentoml", "1 worker, batchable, max_batch_size=1024, max_latency_ms=1000", forms.ARRAY, batch=1024),
    Server("Ray Serve", "ray", "1 replica, no batches, RAY_SERVE_THROUGHPUT_OPTIMIZED=1"),
    Server("Ray Serve, batches", "ray", "as before, @serve.batch of 64, batch_wait_timeout_s=0.001", batch=64),
)


class Running(NamedTuple):
    """A running server.

    Attributes:
        url: URL of predictions.
    """

    server: Server
    url: str


@contextmanager
def running(server: Server, folder: Path, dist: Path) -> Iterator[Running]:
    """Starts the server with `folder`, which is empty, as its working directory; `dist` has the pexes of Pexdock.

    Raises:
        ServerFailed: It does not answer.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}{server.path}"
    command, variables = command_line(folder, dist, port) if server.peer == "pexdock" else _peer(server, port)
    with started(command, folder, variables) as process:
        wait_for(url, server.form.body(forms.rows(1)), process, folder)
        for pid in descendants(process.pid):
            keep_nice(pid)
        yield Running(server, url)


def _peer(server: Server, port: int) -> tuple[list[str], dict[str, str]]:
    python = Path(sys.executable) if server.peer == "uvicorn" else ROOT / ".venv/peers" / server.peer / "bin/python"
    variables = {"PYTHONPATH": str(MODEL), "PATH": f"{python.parent}:{os.environ['PATH']}", "PORT": str(port), "BATCH": str(server.batch)}
    return [str(python), str(HERE / "peers" / server.peer / "app.py")], environment() | variables
