"""TLS and API keys of a front door: who is admitted, and what happens to open connections when files change."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

import pytest
from openapi_spec_validator import validate

from base.ipc.front_door_control import Configure, TlsFiles
from certificates import Authority
from counting_front import CountingService, serve
from rawhttp import Raw, chunked, get, post
from runtime.http import api_keys
from runtime.http.tls import BadTls, make_context
from waiting import until

WITHIN_S = 10


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
def tls(authority):
    return TlsFiles(*map(str, authority.issue("door")))


def is_refused(address: str, client: ssl.SSLContext) -> bool:
    """Returns whether the handshake fails. With TLS 1.3 a client learns that when it first reads."""
    try:
        with Raw(address, client) as raw:
            raw.send(get("/readyz"))
            raw.answer()
    except (ssl.SSLError, ConnectionError, EOFError):
        return True
    return False


def served_by(address: str, client: ssl.SSLContext) -> bytes | None:
    with Raw(address, client) as raw:
        return raw.socket.getpeercert(binary_form=True)


def replace(source: Path, target: str) -> None:
    """Replaces a file as operators should: writes a new one and renames it."""
    aside = Path(target).with_suffix(".new")
    aside.write_bytes(source.read_bytes())
    aside.replace(target)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_fast_path_answers_over_tls(authority, tls, version):
    """Sequential and pipelined requests on one connection stay on the fast path in both TLS versions; a chunked one leaves it."""
    client = authority.client()
    client.minimum_version = client.maximum_version = version

    def talk(address: str, door: CountingService) -> None:
        with Raw(address, client) as raw:
            for _ in range(3):
                raw.send(post("/plain/a", []))
                assert raw.answer().status == 503
            raw.send(post("/plain/a", b"x" * 9000) * 10)
            assert [raw.answer().status for _ in range(10)] == [503] * 10
            assert (door.calls, len(door.heads)) == (0, 1)
            raw.send(chunked("/plain/a", []))
            assert (raw.answer().status, door.calls) == (503, 1)

    serve(talk, Configure(tls=tls))


def test_plain_http_and_old_tls_versions_get_no_response(authority, tls):
    """Nothing is ever sent unencrypted, and the next client is served."""
    old = authority.client()
    old.set_ciphers("DEFAULT@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1

    def talk(address: str, door: CountingService) -> None:
        with Raw(address) as raw:
            raw.send(get("/readyz"))
            assert b"HTTP" not in raw.socket.recv(100)
        assert is_refused(address, old)
        assert not is_refused(address, authority.client())

    serve(talk, Configure(tls=tls))


def test_a_client_without_a_trusted_certificate_gets_no_response_not_even_to_a_probe(authority, tls, tmp_path):
    """This holds for a client without a certificate, and for one whose certificate another authority signed."""
    stranger = Authority(tmp_path, "stranger").issue("unknown")
    own = authority.issue("client")

    def talk(address: str, door: CountingService) -> None:
        assert is_refused(address, authority.client())
        assert is_refused(address, authority.client(*stranger))
        assert not is_refused(address, authority.client(*own))

    serve(talk, Configure(tls=TlsFiles(tls.cert_path, tls.key_path, str(authority.path))))


def test_a_renewed_certificate_is_used_for_new_connections_and_keeps_old_ones(authority, tls):
    """While only one of its two files has been replaced, the old certificate stays in force."""

    def talk(address: str, door: CountingService) -> None:
        client = authority.client()
        before = served_by(address, client)
        cert, key = authority.issue("renewed")
        with Raw(address, client) as raw:
            raw.send(post("/plain/a", []))
            assert raw.answer().status == 503
            replace(cert, tls.cert_path)
            assert served_by(address, client) == before
            replace(key, str(tls.key_path))
            until(lambda: served_by(address, client) != before)
            raw.send(post("/plain/a", []))
            assert raw.answer().status == 503

    serve(talk, Configure(tls=tls))


def test_no_client_is_refused_while_certificates_change_repeatedly(authority, tls):
    """A client that connects at the moment of a change is served with one of the two certificates."""
    files = [authority.issue(f"renewed-{number}") for number in range(20)]

    def talk(address: str, door: CountingService) -> None:
        client = authority.client()
        over = threading.Event()
        refusals: list[bool] = []

        def keep_connecting() -> None:
            while not over.is_set():
                refusals.append(is_refused(address, client))

        clients = [threading.Thread(target=keep_connecting) for _ in range(4)]
        for thread in clients:
            thread.start()
        try:
            for cert, key in files:
                before = served_by(address, client)
                Path(str(tls.key_path)).write_bytes(key.read_bytes())
                Path(tls.cert_path).write_bytes(cert.read_bytes())
                until(lambda before=before: served_by(address, client) != before)
        finally:
            over.set()
            for thread in clients:
                thread.join()
        assert len(refusals) > len(files)
        assert not any(refusals)

    serve(talk, Configure(tls=tls))


def test_connections_of_clients_whose_authority_was_removed_are_closed(authority, tls, tmp_path):
    """Otherwise a client that never disconnects would stay forever. Clients of the new authority are admitted."""
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    trusted = tmp_path / "clients.pem"
    trusted.write_bytes(old.path.read_bytes())

    def talk(address: str, door: CountingService) -> None:
        first, second = authority.client(*old.issue("first")), authority.client(*new.issue("second"))
        with Raw(address, first) as raw:
            raw.send(get("/readyz"))
            assert raw.answer().status == 503
            assert is_refused(address, second)
            replace(new.path, str(trusted))
            assert raw.ended()
        until(lambda: is_refused(address, first))
        assert not is_refused(address, second)

    serve(talk, Configure(tls=TlsFiles(tls.cert_path, tls.key_path, str(trusted))))


def test_files_that_cannot_be_used_are_named_with_the_reason(authority, tmp_path):
    """Each error is one line, and OpenSSL never asks for a password on the terminal."""
    cert, key = authority.issue("door")
    other_key = authority.issue("other")[1]
    text = tmp_path / "text.pem"
    text.write_text("hello")
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
        load_pem_private_key,
    )

    locked = tmp_path / "locked.key"
    plain = load_pem_private_key(key.read_bytes(), None)
    locked.write_bytes(plain.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    for files, reason in (
        (TlsFiles(str(cert), str(other_key)), "the key does not belong to the certificate"),
        (TlsFiles(str(text), str(key)), r"text\.pem cannot be used for TLS"),
        (TlsFiles(str(cert)), "it contains no PEM of the right kind"),
        (
            TlsFiles(str(tmp_path / "nowhere"), str(key)),
            "No such file or directory; correct the setting tls_cert_path",
        ),
        (TlsFiles(str(cert), str(locked)), "the key is encrypted"),
        (TlsFiles(str(cert), str(key), str(text)), r"text\.pem cannot be used for TLS"),
    ):
        with pytest.raises(BadTls, match=reason):
            make_context(files)


def test_every_request_but_a_probe_needs_an_api_key(tmp_path):
    """A request without a key learns nothing on either path through the front door, not even whether an endpoint exists."""
    key, line = api_keys.make_key("blue")
    (path := tmp_path / "keys").write_text(f"# clients\n\n{api_keys.make_key('red')[1]}\n{line}\n")
    plain = [post("/plain/a", []), chunked("/plain/a", []), post("/nowhere", []), get("/docs"), get("/openapi.json"), get("/x", "OPTIONS")]

    def talk(address: str, door: CountingService) -> None:
        for request in plain:
            with Raw(address) as raw:
                raw.send(request)
                answer = raw.answer()
                assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
                assert answer.json()["code"] == "unauthorized"
                assert "access-control-allow-origin" not in answer.headers
        for shown in ("", "x", key[:-1], key + "x", key.upper(), line.split()[0]):
            for header in (f"Authorization: Bearer {shown}", f"X-API-Key: {shown}", f"Authorization: Basic {key}"):
                with Raw(address) as raw:
                    raw.send(post("/plain/a", [], header))
                    assert raw.answer().status == 401
        calls = door.calls
        for header in (f"Authorization: Bearer {key}", f"authorization: bearer   {key}", f"X-API-Key: {key}"):
            with Raw(address) as raw:
                raw.send(post("/plain/a", [], header) * 2)
                assert [raw.answer().status for _ in range(2)] == [503, 503]
        assert door.calls == calls  # they took the fast path
        with Raw(address) as raw:
            for probe, status in (("/livez", 200), ("/readyz", 503)):
                raw.send(get(probe))
                answer = raw.answer()
                assert (answer.status, b"tiny" in answer.body) == (status, False)
            raw.send(f"GET /readyz HTTP/1.1\r\nHost: test\r\nX-API-Key: {key}\r\n\r\n".encode())
            assert raw.answer().json()["not_ready"] == ["tiny"]

    serve(talk, Configure(api_keys_path=str(path)))


def test_the_openapi_document_declares_api_keys_where_they_are_required(tmp_path):
    """Client generators need it. Without API keys the document has no security schemes."""
    key, line = api_keys.make_key("blue")
    (path := tmp_path / "keys").write_text(f"{line}\n")
    found = {}

    def talk(address: str, door: CountingService) -> None:
        with Raw(address) as raw:
            raw.send(f"GET /openapi.json HTTP/1.1\r\nHost: test\r\nX-API-Key: {key}\r\n\r\n".encode())
            found[door.requires_keys] = raw.answer().json()

    serve(talk, Configure(api_keys_path=str(path)))
    serve(talk)
    for document in found.values():
        validate(document)
    with_keys, without = found[True], found[False]
    assert with_keys["security"] == [{"Bearer": []}, {"ApiKey": []}]
    assert with_keys["components"]["securitySchemes"]["ApiKey"]["name"] == "X-API-Key"
    assert "401" in with_keys["paths"]["/plain/{name}"]["post"]["responses"]
    assert with_keys["paths"]["/livez"]["get"]["security"] == []
    assert "security" not in without
    assert not [each for each in without["components"]["responses"] if each in {"Problem401", "Problem409"}]


def test_a_removed_key_is_refused_at_once_even_if_its_head_was_cached(tmp_path, caplog):
    """This holds on an open connection for the very same bytes. An added key is admitted; an unreadable file changes nothing."""
    (old, old_line), (new, new_line) = api_keys.make_key("blue"), api_keys.make_key("blue-2")
    (path := tmp_path / "keys").write_text(f"{old_line}\n")
    asked_old, asked_new = (post("/plain/a", [], f"X-API-Key: {key}") for key in (old, new))

    def talk(address: str, door: CountingService) -> None:
        with Raw(address) as raw:

            def status(request: bytes) -> int:
                raw.send(request)
                return raw.answer().status

            assert [status(asked_old), status(asked_old), len(door.heads)] == [503, 503, 1]
            path.write_text(f"{old_line}\n{new_line}\n")
            until(lambda: status(asked_new) == 503)
            assert status(asked_old) == 503
            path.write_text(f"{new_line}\n")
            until(lambda: status(asked_old) == 401)
            path.write_text(f"{new_line}\n{old}\n")
            until(lambda: "the previous keys stay in force" in caplog.text)
            assert [status(asked_new), status(asked_old)] == [503, 401]
            path.unlink()
            until(lambda: "cannot be read: No such file" in caplog.text)
            assert [status(asked_new), status(asked_old)] == [503, 401]

    serve(talk, Configure(api_keys_path=str(path)))
    assert not any(key in caplog.text for key in (old, new))


def test_nobody_is_admitted_until_the_api_keys_can_be_read(tmp_path):
    key, line = api_keys.make_key("blue")
    path = tmp_path / "later" / "keys"

    def talk(address: str, door: CountingService) -> None:
        with Raw(address) as raw:

            def status() -> int:
                raw.send(post("/plain/a", [], f"X-API-Key: {key}"))
                return raw.answer().status

            assert status() == 401
            path.parent.mkdir()
            path.write_text(f"{line}\n")
            until(lambda: status() == 503)

    serve(talk, Configure(api_keys_path=str(path)))


def test_a_key_file_holds_no_key_and_errors_name_the_line_without_showing_it(tmp_path):
    """Somebody may have put the key itself into the file."""
    key, line = api_keys.make_key("blue@example.com")
    assert key not in line
    assert api_keys.make_key("blue")[0] != key
    assert line.endswith(" blue@example.com")
    path = tmp_path / "keys"
    for text, reason in (
        (f"{line}\n{key}\n", "line 2 of .* is invalid"),
        ("0" * 64, "line 1 of .* is invalid"),
        ("\xff", "cannot be read"),
    ):
        path.write_bytes(text.encode("latin-1"))
        with pytest.raises(api_keys.BadKeys, match=reason) as caught:
            api_keys.read_keys(path)
        assert key not in caught.value.detail
    for name in ("", "a b", "a" * 65, "a\n"):
        with pytest.raises(api_keys.BadKeys, match="invalid name"):
            api_keys.make_key(name)


def test_a_client_that_stays_silent_in_its_handshake_is_disconnected(tls):
    """The time limit is a setting."""

    def talk(address: str, door: CountingService) -> None:
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=WITHIN_S) as sock:
            assert sock.recv(1) == b""

    serve(talk, Configure(tls=tls, tls_handshake_timeout_s=0.2))
