"""TLS contexts of listeners: the server's certificate, and the authorities of client certificates."""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Iterator

from base.errors import PexdockError
from base.ipc.front_door_control import TlsFiles


class BadTls(PexdockError):
    """A certificate, key or authority file cannot be used. Nothing was changed."""

    code = "bad_tls"


def make_context(files: TlsFiles) -> ssl.SSLContext:
    """Returns a server's TLS context: TLS 1.2 or 1.3, Python's default ciphers, HTTP/1.1.

    Raises:
        BadTls: A file cannot be read or is invalid, or the key does not belong to the certificate.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    with _errors_named(files.cert_path, "tls_cert_path or tls_key_path"):
        context.load_cert_chain(files.cert_path, files.key_path, password=_refuse_password)
    if files.client_ca_path is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        with _errors_named(files.client_ca_path, "tls_client_ca_path"):
            context.load_verify_locations(files.client_ca_path)
    return context


@contextlib.contextmanager
def _errors_named(path: str, settings: str) -> Iterator[None]:
    """Turns errors of OpenSSL and the operating system into a BadTls that names the file, or what to correct."""
    try:
        yield
    except ssl.SSLError as exc:
        wrong_key = exc.reason == "KEY_VALUES_MISMATCH"
        reason = "the key does not belong to the certificate" if wrong_key else f"it contains no PEM of the right kind ({exc.reason})"
        raise BadTls(f"{path} cannot be used for TLS: {reason}") from exc
    except OSError as exc:
        advice = f"correct the setting {settings}, or give user {os.geteuid()} access to the file"
        raise BadTls(f"{path} or its key cannot be used for TLS: {exc.strerror or exc}; {advice}") from exc
    except ValueError as exc:
        raise BadTls(f"{path} or its key cannot be used for TLS: {exc}") from exc


def _refuse_password() -> str:
    """Raises ValueError, since OpenSSL would otherwise ask for a password on the terminal."""
    raise ValueError("the key is encrypted; use an unencrypted key in a file that only its owner can read")
