"""Parses and verifies signatures as `ssh-keygen -Y sign` makes them, and the public keys that belong to them.

The format is OpenSSH's, https://github.com/openssh/openssh-portable/blob/master/PROTOCOL.sshsig. It was chosen because developers already
have such a key and a tool that also signs with keys in an agent, and because verification needs no network. `cryptography` does the
arithmetic; this module only parses bytes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_MAGIC = b"SSHSIG"
_HASHES = {b"sha256": "sha256", b"sha512": "sha512"}
_RSA_HASHES: dict[bytes, hashes.HashAlgorithm] = {b"rsa-sha2-256": hashes.SHA256(), b"rsa-sha2-512": hashes.SHA512()}
_EC_HASHES: dict[bytes, hashes.HashAlgorithm] = {
    b"ecdsa-sha2-nistp256": hashes.SHA256(),
    b"ecdsa-sha2-nistp384": hashes.SHA384(),
    b"ecdsa-sha2-nistp521": hashes.SHA512(),
}
_RSA_MIN_BITS = 2048


class BadSignature(Exception):
    """The signature or the key is invalid, or they do not belong together. The message is shown after the name of a file."""


@dataclass(frozen=True)
class PublicKey:
    """A trusted key.

    Attributes:
        blob: The key in SSH's wire format.
        comment: The rest of its line in the file.
    """

    blob: bytes
    comment: str

    @property
    def fingerprint(self) -> str:
        """The fingerprint as `ssh-keygen -l` prints it."""
        return fingerprint(self.blob)


@dataclass(frozen=True)
class Signature:
    """A signature that was parsed but not verified."""

    key: bytes
    namespace: bytes
    hash_name: bytes
    kind: bytes
    value: bytes
    signed: bytes
    """The part of the signed message before the digest of the file."""


def fingerprint(blob: bytes) -> str:
    """Returns the fingerprint of a public key as `ssh-keygen -l` prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def parse_public_key(line: str) -> PublicKey:
    """Parses one line of a `.pub` file.

    Raises:
        BadSignature: The line is not a public key, or its type is not supported.
    """
    words = line.split(None, 2)
    try:
        kind, blob = words[0].encode(), base64.b64decode(words[1], validate=True)
        _supported_key(blob)
        if _Reader(blob).read_string() != kind:
            raise BadSignature("is not a public key: its type and its content differ")
    except (IndexError, binascii.Error) as exc:
        raise BadSignature("is not a public key as `ssh-keygen` writes them to .pub files") from exc
    return PublicKey(blob, words[2] if len(words) > 2 else "")


def parse_signature(text: str) -> Signature:
    """Parses a file that `ssh-keygen -Y sign` has written.

    Raises:
        BadSignature: The text is not a signature, or is truncated.
    """
    lines = text.strip().splitlines()
    if len(lines) < 3 or (lines[0], lines[-1]) != (_BEGIN, _END):
        raise BadSignature(f"is not an SSH signature: it must begin with {_BEGIN} and end with {_END}")
    try:
        blob = base64.b64decode("".join(lines[1:-1]), validate=True)
    except binascii.Error as exc:
        raise BadSignature("is not an SSH signature: it is not base64") from exc
    reader = _Reader(blob)
    if reader.read_bytes(len(_MAGIC)) != _MAGIC or reader.read_uint32() != 1:
        raise BadSignature("is not an SSH signature of version 1")
    key, namespace, reserved, hash_name = (reader.read_string() for _ in range(4))
    inner = _Reader(reader.read_string())
    reader.expect_end()
    kind, value = inner.read_string(), inner.read_string()
    inner.expect_end()
    signed = _MAGIC + b"".join(map(_ssh_string, (namespace, reserved, hash_name)))
    return Signature(key, namespace, hash_name, kind, value, signed)


def verify_signature(signature: Signature, path: Path, namespace: str, keys: Sequence[PublicKey]) -> PublicKey:
    """Verifies the signature of a file, and returns the key that made it. Reads the file.

    Raises:
        BadSignature: The signature was made for another namespace, with another key, or for other content.
    """
    if signature.namespace != namespace.encode():
        raise BadSignature(f"was made for the namespace {signature.namespace[:40].decode(errors='replace')!r}, not {namespace!r}")
    found = [key for key in keys if key.blob == signature.key]
    if not found:
        raise BadSignature(f"was made with the key {fingerprint(signature.key)}, which is not trusted")
    if signature.hash_name not in _HASHES:
        raise BadSignature("uses a hash function other than SHA-256 and SHA-512")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, _HASHES[signature.hash_name]).digest()
    try:
        _verify(signature, signature.signed + _ssh_string(digest))
    except InvalidSignature as exc:
        raise BadSignature(
            "is not a signature of this content: the file changed after it was signed, or the signature belongs to another file"
        ) from exc
    return found[0]


def _supported_key(blob: bytes) -> Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey:
    """Returns the key in `blob`. Keys on hardware are not supported, since their signatures have another format."""
    kind = _Reader(blob).read_string()
    if kind in {b"ssh-ed25519", b"ssh-rsa", *_EC_HASHES}:
        try:
            key = load_ssh_public_key(kind + b" " + base64.b64encode(blob))
        except (ValueError, UnsupportedAlgorithm) as exc:
            raise BadSignature("is not a public key") from exc
        if isinstance(key, RSAPublicKey) and key.key_size < _RSA_MIN_BITS:
            raise BadSignature(f"is an RSA key of {key.key_size} bits; at least {_RSA_MIN_BITS} are required")
        if isinstance(key, Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey):
            return key
    raise BadSignature("is a key of an unsupported type; supported are ed25519, ecdsa and rsa")


def _verify(signature: Signature, message: bytes) -> None:
    """Raises InvalidSignature if `signature` does not sign `message`, or its type differs from the type of its key."""
    own_kind = _Reader(signature.key).read_string()
    match _supported_key(signature.key):
        case Ed25519PublicKey() as key if signature.kind == own_kind:
            key.verify(signature.value, message)
        case EllipticCurvePublicKey() as key if signature.kind == own_kind:
            key.verify(_der(signature.value), message, ECDSA(_EC_HASHES[own_kind]))
        case RSAPublicKey() as key if signature.kind in _RSA_HASHES:
            key.verify(signature.value, message, padding.PKCS1v15(), _RSA_HASHES[signature.kind])
        case _:
            raise InvalidSignature


def _der(value: bytes) -> bytes:
    """Converts the two numbers of an ECDSA signature from SSH's format to DER."""
    reader = _Reader(value)
    r, s = (int.from_bytes(reader.read_string(), signed=True) for _ in range(2))
    reader.expect_end()
    if r < 0 or s < 0:
        raise InvalidSignature
    return encode_dss_signature(r, s)


def _ssh_string(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


class _Reader:
    """Reads SSH's wire format, in which lengths are 4 bytes, big endian. Raises BadSignature at the end of the data."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset = 0

    def read_bytes(self, size: int) -> bytes:
        taken = self._data[self._offset : self._offset + size]
        if len(taken) != size:
            raise BadSignature("is truncated")
        self._offset += size
        return taken

    def read_uint32(self) -> int:
        return int.from_bytes(self.read_bytes(4))

    def read_string(self) -> bytes:
        return self.read_bytes(self.read_uint32())

    def expect_end(self) -> None:
        if self._offset != len(self._data):
            raise BadSignature("has data after its end")
