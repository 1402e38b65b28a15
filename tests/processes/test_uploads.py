"""Pexes that operators upload over HTTP into the dist/ of a real supervisor."""

from __future__ import annotations

import hashlib
import signal
import socket

import pytest

from operated_supervisor import Operated
from tinypex import times, write_tiny


@pytest.fixture
def operated(tmp_path):
    return Operated(tmp_path, pex_max_bytes=1_000_000)


@pytest.fixture
def pex(tmp_path):
    return write_tiny(tmp_path / "tiny.pex", "tiny")


def head(name, content, length=None):
    digest = hashlib.sha256(content).hexdigest()
    return (
        f"PUT /dist/{name} HTTP/1.1\r\nhost: x\r\nx-content-sha256: {digest}\r\ncontent-length: {length or len(content)}\r\n\r\n".encode()
    )


def unfinished_uploads(folder):
    """Returns the files of uploads that are under way."""
    return [path for path in folder.iterdir() if path.name.endswith(".drop")]


def status(client):
    return int(client.recv(65536).split()[1])


def test_an_uploaded_pex_is_served_and_other_content_under_its_name_replaces_it(operated, pex):
    """The response names it by its digest, as the state does afterwards."""
    with operated:
        reply = operated.drop(pex)
        content = pex.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        assert (reply.status_code, reply.json()) == (201, {"file": "tiny.pex", "size_bytes": len(content), "sha256": sha256})
        assert operated.until_state("tiny.pex", "ready")["sha256"] == sha256
        assert operated.predictions("/tiny") == [6]
        write_tiny(pex, "tiny", module=times(5, "/tiny"))
        assert operated.drop(pex).status_code == 201
        operated.until(lambda: operated.predictions("/tiny") == [15])


def test_a_refused_upload_leaves_nothing_in_dist(operated, pex, tmp_path):
    """Reasons are a wrong or missing digest, content that is no pex, an invalid name, and a size beyond the limit, announced or not."""
    (tmp_path / "no.pex").write_bytes(b"no zip")
    large = b"x" * 1_000_001
    (tmp_path / "large.pex").write_bytes(large)
    with operated:
        before = sorted(operated.dist.iterdir())
        cases = [
            (operated.drop(pex, sha256="0" * 64), 400, "upload it again"),
            (operated.drop(pex, sha256="none"), 400, "x-content-sha256"),
            (operated.drop(tmp_path / "no.pex"), 422, "no.pex: "),
            (operated.drop(pex, name=".tiny.pex"), 422, "is not a valid name for a pex"),
            (operated.drop(pex, name="tiny.zip"), 422, "is not a valid name for a pex"),
            (operated.drop(pex, name="..%2Ftiny.pex"), 404, "unknown path"),
            (operated.drop(pex, name="%2e%2e"), 422, "is not a valid name for a pex"),
            (operated.drop(pex, name="tiny%0A.pex"), 422, "is not a valid name for a pex"),
            (operated.drop(tmp_path / "large.pex"), 413, "the limit is 1000000 bytes"),
            (operated.drop(tmp_path / "large.pex", name="large.pex.sig"), 413, "the limit is 65536 bytes"),
        ]
        for reply, code, reason in cases:
            assert (reply.status_code, reason in reply.json()["detail"]) == (code, True), reply.text
        pieces = (large[start : start + 100_000] for start in range(0, len(large), 100_000))
        reply = operated.admin.put("/dist/large.pex", content=pieces, headers={"x-content-sha256": hashlib.sha256(large).hexdigest()})
        assert reply.status_code == 413
        assert sorted(operated.dist.iterdir()) == before


def test_an_upload_that_is_cut_off_leaves_nothing(operated, pex):
    """Neither the file nor its part is there, and the name is free."""
    content = pex.read_bytes()
    with operated:
        with operated.saying(head("tiny.pex", content) + content[:100]):
            operated.until(lambda: unfinished_uploads(operated.dist))
            assert not (operated.dist / "tiny.pex").exists()
        operated.until(lambda: not unfinished_uploads(operated.dist))
        assert operated.drop(pex).status_code == 201


def test_two_uploads_of_one_name_do_not_mix(operated, pex):
    """The second is told to wait. The first ends as it began, and then others may begin. Other names need not wait."""
    content = pex.read_bytes()
    with operated, operated.saying(head("tiny.pex", content) + content[:100]) as first:
        operated.until(lambda: unfinished_uploads(operated.dist))
        second = operated.drop(pex)
        assert (second.status_code, second.json()["code"]) == (409, "conflict")
        assert operated.drop(pex, name="other.pex").status_code == 201
        first.sendall(content[100:])
        assert status(first) == 201
        assert (operated.dist / "tiny.pex").read_bytes() == content
        assert operated.drop(pex).status_code == 201


def test_the_number_of_concurrent_uploads_is_limited(operated, pex):
    """The next one is told to retry; other requests are answered."""
    content = pex.read_bytes()
    with operated:
        clients = [socket.socket(socket.AF_UNIX) for _ in range(4)]
        try:
            for number, client in enumerate(clients):
                client.connect(str(operated.socket))
                client.sendall(head(f"n{number}.pex", content) + b"PK")
            operated.until(lambda: len(unfinished_uploads(operated.dist)) == 4)
            reply = operated.drop(pex)
            assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
            assert operated.admin.get("/models").status_code == 200
        finally:
            for client in clients:
                client.close()
        operated.until(lambda: operated.drop(pex).status_code == 201)


def test_the_rest_of_an_upload_to_a_killed_supervisor_is_removed_at_the_next_start(operated, pex):
    """A file that another process is still writing stays."""
    content = pex.read_bytes()
    with operated:
        with operated.saying(head("tiny.pex", content) + content[:100]):
            (left,) = operated.until(lambda: unfinished_uploads(operated.dist))
            children = operated.children()
            operated.process.send_signal(signal.SIGKILL)
            operated.process.wait()
        assert left.exists()
        assert children
    with operated:
        assert not left.exists()


def test_a_signature_may_be_uploaded_too(operated, tmp_path):
    """It lies beside its pex, and is not taken for one."""
    (tmp_path / "tiny.pex.sig").write_bytes(b"signed")
    with operated:
        assert operated.drop(tmp_path / "tiny.pex.sig").status_code == 201
        assert (operated.dist / "tiny.pex.sig").read_bytes() == b"signed"
        assert {each["file"] for each in operated.state()["releases"]} == {"base.pex"}


def test_an_untrusted_upload_is_refused_before_any_of_its_code_runs(operated, pex, tmp_path):
    """A client with the token for uploads need not be one whose code operators trust."""
    listed = tmp_path / "digests"
    listed.write_text("".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in operated.dist.iterdir()))
    operated.settings["trusted_digests_path"] = listed
    write_tiny(pex, "tiny", module=f"    open({str(tmp_path / 'ran')!r}, 'w')" + times(2, "/tiny"))
    with operated:
        assert operated.drop(pex).status_code == 201
        assert "it is not trusted" in operated.until_state("tiny.pex", "refused")["reason"]
        assert not (tmp_path / "ran").exists()
        with listed.open("a") as file:
            file.write(f"{hashlib.sha256(pex.read_bytes()).hexdigest()}  tiny.pex\n")
        operated.until_state("tiny.pex", "ready")
        assert (tmp_path / "ran").exists()
