"""A supervisor with TLS, client certificates and API keys, and the addresses on which it listens."""

import io
import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import polars as pl
import pytest

import base.service as svc
from base.ipc.front_door_control import Configure, TlsFiles
from base.schema import Schema
from base.testing import TestClient
from certificates import Authority
from supervisor_harness import Supervised, open_files
from tinypex import write_tiny

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


def listening(pids):
    """Returns the addresses at which these processes accept TCP connections, as the kernel lists them."""
    inodes = {link for pid in pids for link in open_files(pid)}
    found = set()
    for family, size in ((socket.AF_INET, 4), (socket.AF_INET6, 16)):
        for line in Path("/proc/net/tcp" if family == socket.AF_INET else "/proc/net/tcp6").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A" and f"socket:[{inode}]" in inodes:
                words = bytes.fromhex(local.split(":")[0])
                swapped = b"".join(words[i : i + 4][::-1] for i in range(0, size, 4))
                found.add((socket.inet_ntop(family, swapped), int(local.split(":")[1], 16)))
    return found


def test_predictions_work_over_mutual_tls_with_an_api_key_through_every_front_door(tmp_path, authority):
    """Every guard is active at once; there are several front doors, and each reads the files itself."""
    cert, key = authority.issue("door")
    own = authority.issue("client")
    supervised = Supervised(tmp_path, front_doors=2, tls_cert_path=cert, tls_key_path=key, tls_client_ca_path=authority.path)
    made = subprocess.run(
        supervised.command("key", "blue"), env=supervised.environment, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    shown, line = (each.split(": ")[1] for each in made.splitlines())
    (tmp_path / "keys").write_text(f"{line}\n")
    supervised.settings["api_keys_path"] = tmp_path / "keys"
    write_tiny(supervised.dist / "tiny.pex", "tiny")
    supervised.start()
    try:
        supervised.until(supervised.has_started)
        address = supervised.state()["address"]
        assert address.startswith("https://127.0.0.1:")
        for _ in range(8):  # connections are spread over both by the kernel
            with httpx.Client(verify=authority.client(*own), base_url=address) as client:
                assert client.get("/livez").status_code == 200
                assert client.post("/tiny", json=[{"x": 3}]).status_code == 401
                for _ in range(3):
                    answer = client.post("/tiny", json=[{"x": 3}], headers={"Authorization": f"Bearer {shown}"})
                    assert (answer.status_code, answer.json()["predictions"]) == (200, [6])
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{address}/readyz", verify=authority.client())
        assert shown not in supervised.err.read_text() + supervised.out.read_text()
    finally:
        supervised.__exit__()


class Numbers(Schema):
    a: pl.Float64


@svc.endpoint("/double")
def double(records_df: Numbers.DataFrame) -> pl.DataFrame:
    return records_df * 2


def test_large_bodies_and_responses_are_the_same_over_tls(authority):
    """This includes those in shared memory: the worker's bytes are encrypted, whatever overwrites the memory later."""
    files = [str(path) for path in authority.issue("door")]
    frames = [pl.DataFrame({"a": np.arange(start, start + 400_000, dtype=np.float64)}) for start in (0, 10**6, 10**7)]
    arrow = "application/vnd.apache.arrow.stream"
    with TestClient(double, limits=Configure(tls=TlsFiles(*files))) as served:
        secured = served.address.replace("http:", "https:")
        with httpx.Client(verify=authority.client(), base_url=secured, timeout=30) as client:
            for frame in frames:
                body = io.BytesIO()
                frame.write_ipc_stream(body)
                answer = client.post("/double", content=body.getvalue(), headers={"content-type": arrow, "accept": arrow})
                assert answer.status_code == 200, answer.text
                assert pl.read_ipc_stream(answer.content)["a"].equals(frame["a"] * 2)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"tls_cert_path": "door.pem", "tls_key_path": "other.key"}, "the key does not belong to the certificate"),
        ({"tls_cert_path": "nowhere.pem"}, "No such file"),
        ({"tls_client_ca_path": "authority.pem"}, "have no effect without tls_cert_path"),
        ({"tls_key_path": "door.key"}, "have no effect without tls_cert_path"),
        ({"api_keys_path": "door.pem"}, "line 1 of"),
        ({"api_keys_path": "nowhere"}, "No such file"),
    ],
)
def test_unusable_guards_fail_the_start(tmp_path, authority, settings, reason):
    """Nothing is served with less protection than configured."""
    authority.issue("door")
    authority.issue("other")
    supervised = Supervised(tmp_path, **{name: tmp_path / path for name, path in settings.items()})
    done = subprocess.run(supervised.command("serve"), env=supervised.environment, capture_output=True, text=True, timeout=30)
    assert done.returncode in {1, 2}
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


def test_by_default_only_the_front_door_listens_and_only_on_loopback(tmp_path):
    """No other process has an address, neither workers nor the admin API."""
    supervised = Supervised(tmp_path)
    write_tiny(supervised.dist / "tiny.pex", "tiny")
    with supervised:
        port = int(supervised.state()["address"].rpartition(":")[2])
        assert listening([supervised.process.pid, *supervised.children()]) == {("127.0.0.1", port)}
        for path in (supervised.run_path, supervised.run_path / "admin.sock", supervised.run_path / "state.json"):
            assert path.stat().st_mode & 0o077 == 0 or path.parent.stat().st_mode & 0o077 == 0


def test_only_the_image_listens_on_all_interfaces():
    """Inside a container only its own network sees the port."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "ENV PEXDOCK_HOST=0.0.0.0" in dockerfile
    found = subprocess.run(["git", "grep", "-lwF", "0.0.0.0"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    code = [path for path in found if path.startswith(("base/", "runtime/", "entrypoint.sh", "Dockerfile", "models/"))]
    assert code == ["Dockerfile", "runtime/supervisor/host/listeners.py"]  # the latter writes an address for people, and binds none


@pytest.mark.parametrize("tls", [False, True])
def test_the_health_check_of_the_image_reports_readiness(tmp_path, authority, tls):
    """It works over plain HTTP and over TLS with any certificate, and fails if nobody listens."""
    cert, key = authority.issue("door")
    supervised = Supervised(tmp_path, **({"tls_cert_path": cert, "tls_key_path": key} if tls else {}))
    command = json.loads(re.search(r"^HEALTHCHECK .* CMD (\[.*\])$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[1])
    command[0] = sys.executable
    write_tiny(supervised.dist / "tiny.pex", "tiny")
    supervised.start()
    try:
        supervised.until_state("tiny.pex", "ready")
        port = supervised.state()["address"].rpartition(":")[2]
        environment = supervised.environment | {"PEXDOCK_PORT": port}
        supervised.until(lambda: subprocess.run(command, env=environment, capture_output=True).returncode == 0)
        free = subprocess.run(command, env=environment | {"PEXDOCK_PORT": "1"}, capture_output=True)
        assert free.returncode != 0
    finally:
        supervised.__exit__()


def test_other_origins_may_not_read_responses(tmp_path):
    """A foreign page in a browser can neither read responses nor send JSON, since CORS is disabled."""
    supervised = Supervised(tmp_path)
    write_tiny(supervised.dist / "tiny.pex", "tiny")
    with supervised:
        address = supervised.state()["address"]
        supervised.until(lambda: supervised.predictions("/tiny") == [6])
        origin = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"}
        for answer in (
            httpx.options(f"{address}/tiny", headers=origin),
            httpx.post(f"{address}/tiny", json=[{"x": 3}], headers=origin),
            httpx.get(f"{address}/openapi.json", headers=origin),
        ):
            assert not [name for name in answer.headers if name.startswith("access-control-")]
        assert httpx.options(f"{address}/tiny", headers=origin).status_code == 405
