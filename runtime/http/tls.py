"""TLS of a front door: its certificate, and which clients it wants to see certificates of."""

from __future__ import annotations

import contextlib
import hashlib
import ssl
from collections.abc import Iterator
from pathlib import Path

from base.errors import PexdockError
from base.ipc.control import TlsFiles

HANDSHAKE_S = 10.0
"""A client that takes longer is hung up on; a slow network needs three round trips."""


class BadTls(PexdockError):
    """Certificate, key or authorities cannot be used. Nothing was changed."""

    code = "bad_tls"


def make_context(tls: TlsFiles) -> ssl.SSLContext:
    """What a listener speaks TLS by: version 1.2 or 1.3, Python's own choice of ciphers, HTTP/1.1.

    Raises:
        BadTls: a file cannot be read, is none of its kind, or the key is not that of the certificate.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    with _naming(tls.cert_path):
        context.load_cert_chain(tls.cert_path, tls.key_path, password=_no_password)
    if tls.client_ca_path is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        with _naming(tls.client_ca_path):
            context.load_verify_locations(tls.client_ca_path)
    return context


def digest_files(*paths: str | None) -> bytes:
    """A digest of what the files hold now; it differs when one of them has changed."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            content = b"" if path is None else Path(path).read_bytes()
        except OSError as exc:
            content = str(exc.errno).encode()
        digest.update(hashlib.sha256(content).digest())
    return digest.digest()


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    """Puts the file's name before whatever OpenSSL and the operating system say."""
    try:
        yield
    except ssl.SSLError as exc:
        wrong_key = exc.reason == "KEY_VALUES_MISMATCH"
        reason = "the key is not that of the certificate" if wrong_key else f"there is no PEM of the right kind in it ({exc.reason})"
        raise BadTls(f"{path} cannot be used for TLS: {reason}") from exc
    except (OSError, ValueError) as exc:
        raise BadTls(f"{path}, or its key, cannot be used for TLS: {getattr(exc, 'strerror', None) or exc}") from exc


def _no_password() -> str:
    """OpenSSL would ask on the terminal, where nobody may sit."""
    raise ValueError("the key is encrypted; Pexdock takes one that is not, in a file that only its user can read")
