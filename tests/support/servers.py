"""Servers of others for tests of artifact clients: moto, which speaks S3, and MLflow's own, each a child process on loopback."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

PYTHON = Path(sys.prefix) / "servers" / "bin" / "python"
"""scripts/setup --tests makes it."""
UP_WITHIN_S = 120
"""MLflow makes its tables first, and imports for long on a busy machine."""


@contextmanager
def moto(folder: Path) -> Iterator[str]:
    """An empty S3; gives its URL."""
    port = free_port()
    with _running(["-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], folder, f"http://127.0.0.1:{port}/moto-api/data.json"):
        yield f"http://127.0.0.1:{port}"


def s3_environment(url: str) -> dict[str, str]:
    """What leads a program to such a server by its environment alone."""
    keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_REGION": "us-east-1"}
    return {"AWS_ENDPOINT_URL": url, "AWS_ALLOW_HTTP": "true"} | keys


def gcs_environment(url: str, folder: Path) -> dict[str, str]:
    """The same for a client of Google Cloud Storage: its XML API is that of S3, but for who may ask, which moto does not look at."""
    pem = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    account = folder / "service-account.json"
    account.write_text(json.dumps({"gcs_base_url": url, "client_email": "tests@example", "private_key": pem, "private_key_id": "any"}))
    return {"GOOGLE_SERVICE_ACCOUNT": str(account)}


def store_environment(scheme: str, url: str, folder: Path) -> dict[str, str]:
    """What leads to such a server who follows a URL of this scheme, `s3` or `gs`; `folder` is for files of the test."""
    return s3_environment(url) if scheme == "s3" else gcs_environment(url, folder)


@contextmanager
def mlflow(folder: Path) -> Iterator[str]:
    """A tracking server and registry on SQLite, with its artifacts in the same folder; gives its URL."""
    port = free_port()
    stores = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "artifacts")]
    arguments = ["-m", "mlflow", "server", *stores, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with _running(arguments, folder, f"http://127.0.0.1:{port}/health"):
        yield f"http://127.0.0.1:{port}"


def free_port() -> int:
    """One that nobody listens at now."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@contextmanager
def _running(arguments: Sequence[str], folder: Path, health: str) -> Iterator[None]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "AWS_", "PYTHON"))}
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    log = folder / "server.log"
    with log.open("wb") as out:
        child = subprocess.Popen(
            [PYTHON, *arguments], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
        try:
            _wait_until_up(child, health, log)
            yield
        finally:
            _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    """With all that it started: the group is its own."""
    try:
        os.killpg(child.pid, 9)
    except ProcessLookupError:
        pass  # it ended by itself
    child.wait()


def _wait_until_up(child: subprocess.Popen[bytes], health: str, log: Path) -> None:
    deadline = time.monotonic() + UP_WITHIN_S
    while True:
        try:
            with urllib.request.urlopen(health, timeout=5):
                return
        except (urllib.error.URLError, OSError) as exc:
            if child.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"no server: {log.read_text()[-4000:]}") from exc
        time.sleep(0.1)
