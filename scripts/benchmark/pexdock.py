"""Pexdock as in its image: base and models in dist/, and the start script beside it."""

from __future__ import annotations

import importlib.metadata
import os
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmark.processes import descendants, free_port, keep_nice, started, wait_for
from runtime import settings
from runtime.build import base, model

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
MODEL = HERE / "models/linear"

START_S = 600
"""Time to start; 100 models on two cores need some minutes."""

PROJECT = """\
[project]
name = "{name}"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = []

[project.entry-points."pexdock.endpoints"]
predict = "{name}:predict"

[build-system]
requires = ["poetry-core>=2.0,<3"]
build-backend = "poetry.core.masonry.api"
"""


class Pexdock(NamedTuple):
    """A Pexdock that is ready.

    Attributes:
        url: URL of its front door.
        pid: Pid of its supervisor.
    """

    url: str
    pid: int

    @property
    def processes(self) -> list[int]:
        """Returns the pids of the supervisor and all its descendants."""
        return [self.pid, *descendants(self.pid)]


@contextmanager
def serving(folder: Path, dist: Path, chosen: Mapping[str, object] | None = None) -> Iterator[Pexdock]:
    """Starts Pexdock in `folder`, which is empty, and waits until all models are ready. Settings are named as in `pexdock.toml`.

    Raises:
        ServerFailed: It is not ready in time.
    """
    port = free_port()
    command, variables = command_line(folder, dist, port)
    variables |= {f"PEXDOCK_{name.upper()}": str(value) for name, value in (chosen or {}).items()}
    with started(command, folder, variables) as process:
        wait_for(f"http://127.0.0.1:{port}/readyz", None, process, folder, START_S)
        found = Pexdock(f"http://127.0.0.1:{port}", process.pid)
        for pid in found.processes:
            keep_nice(pid)
        yield found


def command_line(folder: Path, dist: Path, port: int) -> tuple[list[str], dict[str, str]]:
    """Prepares `folder`, and returns the command and the environment."""
    (folder / "entrypoint.sh").write_bytes((ROOT / "entrypoint.sh").read_bytes())
    (folder / "entrypoint.sh").chmod(0o755)
    return [str(folder / "entrypoint.sh")], environment() | {
        "PEXDOCK_DIST_PATH": str(dist.absolute()),
        "PEXDOCK_PORT": str(port),
        "PEXDOCK_RUN_PATH": str(folder / "run"),
    }


def environment() -> dict[str, str]:
    """Returns the environment without settings of Pexdock. One thread for linear algebra on three columns is best for all servers."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PEXDOCK_", "PYTHON"))}
    return kept | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def build_base(dist: Path) -> None:
    """Builds base into `dist`, only if this tree has changed."""
    base.build_base(ROOT, _base(dist), cache=settings.load().cache_path, report=_say)


def build_model(dist: Path, project: Path = MODEL) -> Path:
    """Builds the pex of a model project into `dist`, on the base there, and returns its path."""
    output = dist / f"{project.name}.pex"
    return model.build_model(project, _base(dist), output, cache=settings.load().cache_path, report=_say).path


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def copy_model(pex: Path, name: str, other: str) -> Path:
    """Copies a model beside `pex` under another name of the same length, and returns its path."""
    output = pex.with_name(f"{other}.pex")
    with zipfile.ZipFile(pex) as source, zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as copy:
        for entry in source.namelist():
            own = entry.startswith(".bootstrap/")  # pex itself, which the supervisor does not need
            if not own or entry == ".bootstrap/pex/__init__.py":
                copy.writestr(entry.replace(name, other), source.read(entry).replace(name.encode(), other.encode()))
    return output


def write_project(folder: Path, name: str, source: str) -> Path:
    """Creates the project of a model with one module, in a subfolder of `folder`."""
    project = folder / name
    project.mkdir(parents=True)
    (project / f"{name}.py").write_text(source)
    (project / "pyproject.toml").write_text(PROJECT.format(name=name))
    return project


def _base(dist: Path) -> Path:
    return dist / f"base-{importlib.metadata.version('pexdock')}.pex"
