"""The servers that are compared: what each is told, in which form it takes rows, and how it is started."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmark import forms
from benchmark.processes import ServerFailed, free_port, started, wait_for

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
MODEL = HERE / "models/linear"


class Server(NamedTuple):
    """One server with one set of settings.

    Attributes:
        name: unique; what `--only` asks for begins it.
        peer: the folder in peers/, and the environment in .venv/peers/; "pexdock" is this tree.
        settings: what differs from its defaults, for the report.
        path: of predictions.
        batch: requests in a batch at most; 1 for none. Pexdock's stands in the model.
        answers: False where it answers with a constant, and so cannot be right.
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
        """Whose version says which version of the product it is."""
        return DISTRIBUTIONS.get(self.peer, self.peer)

    @property
    def product(self) -> str:
        """The name without its settings."""
        return self.name.partition(",")[0]


DISTRIBUTIONS = {"triton": "nvidia-pytriton"}

SERVERS = (
    Server("Pexdock", "pexdock", "defaults: 1 front door, 1 worker, batches of up to 64 rows"),
    Server("bare uvicorn", "uvicorn", "uvloop, httptools, no access log; answers with a constant, so it is no model server", answers=False),
    Server(
        "Mosec",
        "mosec",
        "1 worker, no batches; JSON by msgspec instead of its default",
        path="/inference",
    ),
    Server(
        "Mosec, batches",
        "mosec",
        "1 worker, max_batch_size=64, max_wait_time=1 ms; JSON by msgspec",
        path="/inference",
        batch=64,
    ),
)


class Running(NamedTuple):
    """A server that answers.

    Attributes:
        url: of predictions.
    """

    server: Server
    url: str
    process: subprocess.Popen[bytes]


@contextmanager
def running(server: Server, folder: Path, dist: Path) -> Iterator[Running]:
    """Starts the server with `folder`, which is empty, as its working directory; `dist` is where Pexdock's pexes lie.

    Raises:
        ServerFailed: it does not answer.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}{server.path}"
    command, environment = _pexdock(folder, dist, port) if server.peer == "pexdock" else _peer(server, port)
    with started(command, folder, environment) as process:
        wait_for(url, server.form.body(forms.rows(1)), process, folder)
        yield Running(server, url, process)


def _pexdock(folder: Path, dist: Path, port: int) -> tuple[list[str], dict[str, str]]:
    """As in the image: the start script beside a dist/, which runs `pexdock serve` out of base."""
    (folder / "dist").symlink_to(dist)
    (folder / "entrypoint.sh").write_bytes((ROOT / "entrypoint.sh").read_bytes())
    (folder / "entrypoint.sh").chmod(0o755)
    return [str(folder / "entrypoint.sh")], _environment() | {"PEXDOCK_PORT": str(port), "PEXDOCK_RUN_PATH": str(folder / "run")}


def _peer(server: Server, port: int) -> tuple[list[str], dict[str, str]]:
    app = HERE / "peers" / server.peer / "app.py"
    python = ROOT / ".venv/peers" / server.peer / "bin/python"
    found = Path(sys.executable) if server.peer == "uvicorn" else python
    environment = {"PYTHONPATH": str(MODEL), "PATH": f"{found.parent}:{os.environ['PATH']}", "PORT": str(port), "BATCH": str(server.batch)}
    return [str(found), str(app)], _environment() | environment


def _environment() -> dict[str, str]:
    """Without what would change how Pexdock runs. One thread for the linear algebra of three columns is the best setting for all."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PEXDOCK_", "PYTHON"))}
    return kept | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def build(dist: Path) -> None:
    """Puts base and the model's pex into `dist`; both are built only when something has changed.

    Raises:
        ServerFailed: one of them cannot be built.
    """
    base = dist / f"base-{importlib.metadata.version('pexdock')}.pex"
    for what in (["base"], ["model", str(MODEL), "--base", str(base)]):
        output = base if what[0] == "base" else dist / "linear.pex"
        command = [sys.executable, "-m", "runtime", "build", *what, "--output", str(output)]
        done = subprocess.run(
            command, cwd=ROOT, env=_environment() | {"PYTHONPATH": str(ROOT)}, check=False, capture_output=True, text=True
        )
        if done.returncode:
            raise ServerFailed(f"{' '.join(command)}:\n{done.stderr}")
