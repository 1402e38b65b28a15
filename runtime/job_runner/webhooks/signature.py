"""Signs webhooks as the specification "Standard Webhooks" says, for which libraries exist in many languages."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from pathlib import Path

from base.errors import PexdockError

_PREFIX = "whsec_"
_MIN_BYTES = 24
_MAX_BYTES = 64 * 1024


class BadWebhookSecret(PexdockError):
    """The file of secrets cannot be used. No webhook is called meanwhile."""

    code = "bad_webhook_secret"


def read_secrets(path: Path) -> list[bytes]:
    """Returns the secrets in a file, one a line: `whsec_` and Base64, or any text, of which the bytes are the secret.

    Raises:
        BadWebhookSecret: The file cannot be read, has no secret, or one that is too short.
    """
    try:
        with path.open("rb") as file:
            lines = [line.strip() for line in file.read(_MAX_BYTES).decode().splitlines() if line.strip()]
        secrets = [
            base64.b64decode(line.removeprefix(_PREFIX), validate=True) if line.startswith(_PREFIX) else line.encode() for line in lines
        ]
    except (OSError, UnicodeDecodeError, binascii.Error) as exc:
        raise BadWebhookSecret(f"cannot read the webhook secrets in {path}: {exc}") from exc
    if not secrets or min(map(len, secrets)) < _MIN_BYTES:
        raise BadWebhookSecret(
            f"{path} must hold secrets of at least {_MIN_BYTES} bytes, one a line; create one with `openssl rand -hex 32`"
        )
    return secrets


def sign(secrets: Sequence[bytes], message_id: str, timestamp_s: int, body: bytes) -> list[tuple[str, str]]:
    """Returns the headers of a call: a signature over id, time and body for each secret, so that a new secret can replace an old one."""
    content = b"%b.%d.%b" % (message_id.encode(), timestamp_s, body)
    signatures = [base64.b64encode(hmac.digest(secret, content, hashlib.sha256)).decode() for secret in secrets]
    return [
        ("webhook-id", message_id),
        ("webhook-timestamp", str(timestamp_s)),
        ("webhook-signature", " ".join(f"v1,{signature}" for signature in signatures)),
    ]
