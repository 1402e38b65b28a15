"""Access to the admin API: by file mode on the Unix socket, by token on TCP."""

from __future__ import annotations

import socket
import urllib.parse
from pathlib import Path

import httpx
import pytest

from certificates import Authority
from operated_supervisor import OTHER_TOKEN as OTHER
from operated_supervisor import TOKEN, Operated, write_token
from supervisor_harness import open_files
from tinypex import write_tiny


@pytest.fixture
def operated(tmp_path):
    made = Operated(tmp_path).listen_on_tcp(tmp_path)
    write_tiny(made.dist / "tiny.pex", "tiny")
    return made


def test_over_tcp_every_request_needs_the_token(operated):
    """A client without it learns nothing, not even which paths exist."""
    with operated:
        assert operated.ask_over_tcp("GET", "/models").json()["pid"] == operated.process.pid
        for token in ("", OTHER, TOKEN + "x", TOKEN[:-1]):
            for method, path in (
                ("GET", "/models"),
                ("GET", "/nothing"),
                ("GET", "/openapi.json"),
                ("POST", "/drain"),
                ("PUT", "/dist/x.pex"),
            ):
                reply = operated.ask_over_tcp(method, path, token)
                assert (reply.status_code, reply.json()["code"]) == (401, "unauthorized")
                assert reply.headers["www-authenticate"] == "Bearer"
                assert reply.headers["content-type"] == "application/problem+json"
        assert operated.ask_over_tcp("GET", "/models", "", headers={"authorization": f"Basic {TOKEN}"}).status_code == 401
        assert operated.ask_over_tcp("GET", "/models", "", headers={"authorization": f"bearer {TOKEN}"}).status_code == 200
        assert operated.admin.get("/models").status_code == 200  # the socket's mode says who it is


def test_the_body_of_a_request_without_the_token_is_not_read(operated):
    """The connection ends with the refusal, whatever length was announced."""
    with operated:
        where = urllib.parse.urlsplit(operated.state()["admin_address"])
        with socket.create_connection((where.hostname, where.port), timeout=20) as client:
            client.sendall(b"PUT /dist/x.pex HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\nsome")
            answer = b""
            while data := client.recv(65536):
                answer += data
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert [path.name for path in operated.dist.iterdir() if "x.pex" in path.name] == []


def test_a_new_token_is_in_force_at_once_and_the_old_one_is_refused(operated):
    """This includes a file that is replaced. An unusable file admits nobody until it is repaired."""
    with operated:
        write_token(operated.token_path, OTHER)
        assert [operated.ask_over_tcp("GET", "/models", token).status_code for token in (TOKEN, OTHER)] == [401, 200]
        operated.token_path.chmod(0o644)
        assert operated.ask_over_tcp("GET", "/models", OTHER).status_code == 401
        operated.token_path.chmod(0o600)
        assert operated.ask_over_tcp("GET", "/models", OTHER).status_code == 200
        operated.token_path.unlink()
        assert operated.ask_over_tcp("GET", "/models", OTHER).status_code == 401
        assert OTHER not in operated.err.read_text()


def test_with_a_certificate_the_api_speaks_only_https_and_renews_it_without_a_restart(operated, tmp_path):
    """The certificate is the front door's. The command trusts the given authority; operators need no client certificate."""
    first, second = Authority(tmp_path, "first"), Authority(tmp_path, "second")
    cert, key = first.issue("server")
    operated.settings |= {"tls_cert_path": cert, "tls_key_path": key}
    operated.start()
    try:
        address = operated.until(lambda: operated.state().get("admin_address"))
        assert address.startswith("https://127.0.0.1:")

        def asked(authority, **env):
            there = ("--admin", address, "--admin-token-path", operated.token_path)
            return operated.run("models", *there, env={"SSL_CERT_FILE": str(authority.path), **env}).returncode

        operated.until(lambda: asked(first) == 0)
        assert asked(second) == 1
        with pytest.raises(httpx.TransportError):
            httpx.get(address.replace("https", "http"), timeout=5)
        for path, new in zip((cert, key), second.issue("other"), strict=True):
            new.replace(path)
        operated.until(lambda: asked(second) == 0)
        assert asked(first) == 1
    finally:
        operated.__exit__()


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        (None, 0o600, "cannot read the token file"),
        (TOKEN, 0o644, "that others cannot read"),
        (TOKEN, 0o640, "that others cannot read"),
        ("short", 0o600, "at least 20 characters"),
        ("two words of more than twenty characters", 0o600, "at least 20 characters"),
    ],
)
def test_without_a_usable_token_the_supervisor_does_not_start(operated, content, mode, reason):
    """It never listens without a token, or with one that everybody can read."""
    if content is None:
        operated.token_path.unlink()
    else:
        write_token(operated.token_path, content, mode)
    ended = operated.run("serve")
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert reason in ended.stderr
    assert not operated.run_path.exists()


def test_a_port_without_a_token_is_refused(operated):
    """The message names the setting."""
    del operated.settings["admin_token_path"]
    ended = operated.run("serve")
    assert ended.returncode == 1
    assert "admin_token_path" in ended.stderr


def test_the_tcp_port_is_closed_by_default_and_no_child_knows_the_token(operated):
    """Without a port it listens on no address. Neither workers nor front doors have the token or its path in their environment."""
    with operated:
        for pid in operated.children():
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            assert TOKEN.encode() not in environment
            assert str(operated.token_path).encode() not in environment
    del operated.settings["admin_port"]
    with operated:
        assert operated.state()["admin_address"] == ""
        lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
        inodes = {line.split()[9] for line in lines if line.split()[3] == "0A"}  # of those who listen
        assert len([link for link in open_files(operated.process.pid) if link.removeprefix("socket:[").rstrip("]") in inodes]) == 1
