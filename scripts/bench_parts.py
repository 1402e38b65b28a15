"""The processes that `bench_http.py` measures: how they are started, asked and weighed."""

from __future__ import annotations

import http.client
import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
START_S = 300
"""The first start on a machine unpacks and compiles base."""

ROLES = {"runtime": "supervisor", "runtime.front": "front door", "base.worker": "worker"}

TRANSACTION = {"amount": 950.0, "hour": 3, "abroad": True, "merchant": "electronics"}
TRANSACTIONS_PATH = "/predictions/transactions/US/US-CA/"


def prepare(folder: Path, dist: Path, rows: list[dict[str, Any]]) -> tuple[str, list[float]]:
    """Makes `folder` look like the container's: start script, dist/ with base and iris, artifacts/ with trained models.

    Returns:
        The path of iris' endpoint, and what its model predicts for `rows` when asked without Pexdock.
    """
    shutil.copy(ROOT / "entrypoint.sh", folder)
    (folder / "dist").mkdir()
    for name in ("base", "iris"):
        shutil.copy(newest(dist, name), folder / "dist")
    train("transactions", folder / "artifacts")
    parameters = dict(word.split("=") for word in train("iris", folder / "artifacts").split() if "=" in word)
    place = "{run_id}/artifacts/{model_id}".format(**parameters)
    return "/predictions/iris/{run_id}/{model_id}".format(**parameters), ask_directly(folder / "artifacts/mlflow/iris" / place, rows)


def newest(dist: Path, name: str) -> Path:
    """The pex of that name that was made last.

    Raises:
        SystemExit: there is none.
    """
    found = sorted(dist.glob(f"{name}-*.pex"), key=lambda path: path.stat().st_mtime)
    if not found:
        sys.exit(f"there is no {name} in {dist}: ./entrypoint.sh builds it")
    return found[-1]


def train(model: str, artifacts: Path) -> str:
    """Runs the model's own training; what it printed."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "models" / model)))}
    command = [sys.executable, "-m", f"{model}.train", "--artifacts", str(artifacts)]
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


def ask_directly(artifact: Path, rows: list[dict[str, Any]]) -> list[float]:
    """What the model predicts in this process."""
    mlflow, polars = importlib.import_module("mlflow.sklearn"), importlib.import_module("polars")
    return [float(value) for value in mlflow.load_model(str(artifact)).predict(polars.DataFrame(rows))]


@contextmanager
def uvicorn(app: str) -> Iterator[str]:
    """A bare app on the same loop and parser as the front door's; its address."""
    port = free_port()
    options = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning", "--lifespan", "off"]
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(Path(__file__).parent), app, "--port", str(port), *options]
    with ended(subprocess.Popen(command)):
        wait_for(f"http://127.0.0.1:{port}/", b"[]", time.monotonic() + START_S)
        yield f"http://127.0.0.1:{port}"


@contextmanager
def supervisor(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Pexdock as its container starts it, in `folder`; its address once it is ready, and its process."""
    port = free_port()
    environment = os.environ | {"PEXDOCK_PORT": str(port), "PEXDOCK_RUN_PATH": str(folder / "run")}
    began = time.monotonic()
    with (
        (folder / "log").open("wb") as log,
        ended(subprocess.Popen([folder / "entrypoint.sh"], cwd=folder, env=environment, stdout=log)) as process,
    ):
        wait_for(f"http://127.0.0.1:{port}/readyz", None, began + START_S, process)
        print(f"ready after {time.monotonic() - began:.1f} s", file=sys.stderr)
        yield f"http://127.0.0.1:{port}", process


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """SIGTERM after the block, and SIGKILL for what does not mind it."""
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def dropped(folder: Path, url: str, dist: Path) -> str:
    """The time from the rename of a pex into dist/ to its first answer with status 200."""
    pex = newest(dist, "transactions")
    aside = shutil.copy(pex, folder / pex.name)
    began = time.monotonic()
    Path(aside).rename(folder / "dist" / pex.name)
    wait_for(url + TRANSACTIONS_PATH, json.dumps([TRANSACTION]).encode(), began + START_S)
    return f"From the drop of {pex.name} to its first 200: {time.monotonic() - began:.2f} s\n"


def wait_for(url: str, body: bytes | None, deadline: float, process: subprocess.Popen[bytes] | None = None) -> None:
    """Asks until the answer is 200.

    Raises:
        SystemExit: the deadline is over, or `process` has ended.
    """
    while (answer := request(url, body))[0] != 200:
        if time.monotonic() > deadline or (process is not None and process.poll() is not None):
            sys.exit(f"{url} does not answer with 200: {answer[1].decode(errors='replace')}")
        time.sleep(0.01)


def request(url: str, body: bytes | None) -> tuple[int, bytes]:
    """GET without a body, POST with one. Status 0 says that nobody answered, and why."""
    parsed = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parsed.netloc, timeout=60)
    try:
        connection.request("GET" if body is None else "POST", parsed.path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except OSError as exc:
        return 0, str(exc).encode()
    finally:
        connection.close()


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def family(pid: int) -> list[int]:
    """The process and all that descend from it."""
    children = " ".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children"))
    return [pid, *(member for child in children.split() for member in family(int(child)))]


def role(pid: int) -> str:
    """What the process is, by the module that it runs."""
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return next((name for module, name in ROLES.items() if module in words), " ".join(words))


def pss_bytes(pid: int) -> int:
    """Proportional set size: private pages, and each shared page divided by its users."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
