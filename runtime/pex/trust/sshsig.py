"""Signatures as `ssh-keygen -Y sign` makes them, and the public keys that they are checked with.

The format is OpenSSH's, https://github.com/openssh/openssh-portable/blob/master/PROTOCOL.sshsig. It was chosen since everybody who may
sign has such a key already and a tool that makes signatures, also with keys in an agent; and since checking one needs no network.
Arithmetic is that of `cryptography`; here bytes are only taken apart.
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
    """It is no signature, no key, or does not fit; the words say what is wrong with it. They follow a file's name."""


@dataclass(frozen=True)
class PublicKey:
    """A key whose holder is trusted. `blob` is its form on SSH's wire; `comment` is what follows it in the file."""

    blob: bytes
    comment: str

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -l` prints it."""
        return fingerprint(self.blob)


@dataclass(frozen=True)
class Signature:
    """A signature, taken apart and not checked."""

    key: bytes
    namespace: bytes
    hash_name: bytes
    kind: bytes
    value: bytes
    signed: bytes
    """What stands before the digest of the file in that which was signed."""


def fingerprint(blob: bytes) -> str:
    """Of a public key, as `ssh-keygen -l` prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def parse_public_key(line: str) -> PublicKey:
    """One line of a `.pub` file.

    Raises:
        BadSignature: it is no public key, or one of a kind that is not checked here.
    """
    words = line.split(None, 2)
    try:
        kind, blob = words[0].encode(), base64.b64decode(words[1], validate=True)
        _usable(blob)
        if _Reader(blob).string() != kind:
            raise BadSignature("is no public key: its name and its content differ")
    except (IndexError, binascii.Error) as exc:
        raise BadSignature("is no public key, as `ssh-keygen` writes them into .pub files") from exc
    return PublicKey(blob, words[2] if len(words) > 2 else "")


def parse_signature(text: str) -> Signature:
    """What `ssh-keygen -Y sign` wrote.

    Raises:
        BadSignature: it is none, or is cut.
    """
    lines = text.strip().splitlines()
    if len(lines) < 3 or (lines[0], lines[-1]) != (_BEGIN, _END):
        raise BadSignature(f"is no SSH signature: it must begin with {_BEGIN} and end with {_END}")
    try:
        blob = base64.b64decode("".join(lines[1:-1]), validate=True)
    except binascii.Error as exc:
        raise BadSignature("is no SSH signature: it is not base64") from exc
    reader = _Reader(blob)
    if reader.take(len(_MAGIC)) != _MAGIC or reader.number() != 1:
        raise BadSignature("is no SSH signature of version 1")
    key, namespace, reserved, hash_name = (reader.string() for _ in range(4))
    inner = _Reader(reader.string())
    reader.end()
    kind, value = inner.string(), inner.string()
    inner.end()
    signed = _MAGIC + b"".join(map(_packed, (namespace, reserved, hash_name)))
    return Signature(key, namespace, hash_name, kind, value, signed)


def verify_signature(signature: Signature, path: Path, namespace: str, keys: Sequence[PublicKey]) -> PublicKey:
    """Whose signature of a file it is. Reads the file.

    Raises:
        BadSignature: it was made for something else, with another key, or of other content.
    """
    if signature.namespace != namespace.encode():
        raise BadSignature(f"was made for the namespace {signature.namespace[:40].decode(errors='replace')!r}, not {namespace!r}")
    found = [key for key in keys if key.blob == signature.key]
    if not found:
        raise BadSignature(f"was made with the key {fingerprint(signature.key)}, which is not trusted")
    if signature.hash_name not in _HASHES:
        raise BadSignature("uses another digest than SHA-256 or SHA-512")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, _HASHES[signature.hash_name]).digest()
    try:
        _verify(signature, signature.signed + _packed(digest))
    except InvalidSignature as exc:
        raise BadSignature("is not a signature of this content: the file changed after it was signed, or it belongs to another") from exc
    return found[0]


def _usable(blob: bytes) -> Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey:
    """The key in `blob`, if it is of a kind that `_verify` knows. Keys on hardware sign in a form of their own, which it does not."""
    kind = _Reader(blob).string()
    if kind in {b"ssh-ed25519", b"ssh-rsa", *_EC_HASHES}:
        try:
            key = load_ssh_public_key(kind + b" " + base64.b64encode(blob))
        except (ValueError, UnsupportedAlgorithm) as exc:
            raise BadSignature("is no public key") from exc
        if isinstance(key, RSAPublicKey) and key.key_size < _RSA_MIN_BITS:
            raise BadSignature(f"is an RSA key of {key.key_size} bits; {_RSA_MIN_BITS} are the least")
        if isinstance(key, Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey):
            return key
    raise BadSignature("is a key of a kind that is not checked here; ed25519, ecdsa and rsa are")


def _verify(signature: Signature, message: bytes) -> None:
    """InvalidSignature where it is none of `message`, also where it is of another kind than its key."""
    own_kind = _Reader(signature.key).string()
    match _usable(signature.key):
        case Ed25519PublicKey() as key if signature.kind == own_kind:
            key.verify(signature.value, message)
        case EllipticCurvePublicKey() as key if signature.kind == own_kind:
            key.verify(_der(signature.value), message, ECDSA(_EC_HASHES[own_kind]))
        case RSAPublicKey() as key if signature.kind in _RSA_HASHES:
            key.verify(signature.value, message, padding.PKCS1v15(), _RSA_HASHES[signature.kind])
        case _:
            raise InvalidSignature


def _der(value: bytes) -> bytes:
    """The two numbers of an ECDSA signature from SSH's form in the one that `cryptography` takes."""
    reader = _Reader(value)
    r, s = (int.from_bytes(reader.string(), signed=True) for _ in range(2))
    reader.end()
    if r < 0 or s < 0:
        raise InvalidSignature
    return encode_dss_signature(r, s)


def _packed(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


class _Reader:
    """Takes apart bytes of SSH's wire: lengths are 4 bytes, big endian. Runs out with BadSignature."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    def take(self, size: int) -> bytes:
        taken = self._data[self._place : self._place + size]
        if len(taken) != size:
            raise BadSignature("is cut")
        self._place += size
        return taken

    def number(self) -> int:
        return int.from_bytes(self.take(4))

    def string(self) -> bytes:
        return self.take(self.number())

    def end(self) -> None:
        if self._place != len(self._data):
            raise BadSignature("has bytes behind its end")
