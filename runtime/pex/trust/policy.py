"""Verifies that a pex is trusted: by a signature beside it, made with a trusted key, or by a list of digests. Runs no code of the pex.

Keys, lists and signatures are read again for each pex. So a new key counts at once, and a removed key admits no further pex; releases that
were admitted before continue to run.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from base.errors import PexdockError, PexRefused

if TYPE_CHECKING:
    from runtime.pex.trust import sshsig

NAMESPACE = "pexdock"
"""The namespace of signatures. Signatures for other purposes, such as commits or mails, admit no pex."""

_EVIDENCE_MAX_BYTES = 1024 * 1024
_DIGEST_LINE = re.compile(r"\\?([0-9a-fA-F]{64})(?: [ *].+)?")

Evidence = tuple[tuple[int, ...], ...]


class Untrusted(PexRefused):
    """The pex is not trusted.

    Attributes:
        evidence: State of the signature, the keys and the list; when it changes, another attempt may succeed.
    """

    code = "pex_untrusted"

    def __init__(self, detail: str, evidence: Evidence) -> None:
        super().__init__(detail)
        self.evidence = evidence


class TrustPolicy:
    """The keys and the digests that operators trust.

    Args:
        keys_path: A file of public keys, or a folder of `.pub` files; None if signatures do not count.
        digests_path: A file with lines as `sha256sum` prints them; None without such a list.
    """

    def __init__(self, keys_path: Path | None, digests_path: Path | None) -> None:
        self._keys_path = keys_path
        self._digests_path = digests_path

    @property
    def paths(self) -> list[Path]:
        """The files and folders on which the decision depends, in addition to signatures."""
        return [path for path in (self._keys_path, self._digests_path) if path is not None]

    def check_readable(self) -> None:
        """Checks the files before the first release is served.

        Raises:
            PexdockError: A file is missing or has an invalid line.
        """
        setting = "trusted_digests_path"
        try:
            self._digests()
            if self._keys_path is not None:
                setting = "trusted_keys_path"
                _keys(self._keys_path)
        except _Unreadable as exc:
            raise PexdockError(f"{exc}; no pex can be trusted until that is corrected there or in the setting {setting}") from exc

    def evidence(self, pex: Path) -> Evidence:
        """Returns a value that changes when the signature beside `pex`, the keys or the list change."""
        folder = self._keys_path
        keys = sorted(folder.glob("*.pub")) if folder is not None and folder.is_dir() else []
        return tuple(_file_identity(path) for path in (_signature_of(pex), *self.paths, *keys))

    def verify(self, pex: Path, copy: Path, sha256: str) -> str:
        """Verifies a pex, and returns the reason why it is trusted, for people.

        Args:
            pex: The file, which may change at any time; its signature is beside it.
            copy: A copy to which no other process writes.
            sha256: Digest of that copy.

        Raises:
            Untrusted: The pex is not trusted; the message says what to do. Nothing was changed.
        """
        seen = self.evidence(pex)
        try:
            if sha256 in self._digests():
                return f"listed in {self._digests_path}"
            if self._keys_path is None:
                raise _Lacking(f"its sha256, {sha256}, is not in {self._digests_path}")
            return _verify_signature(copy, _signature_of(pex), self._keys_path)
        except (_Lacking, _Unreadable) as exc:
            raise Untrusted(f"{pex.name}: it is not trusted: {exc}; {self._advice(pex)}", seen) from exc

    def _advice(self, pex: Path) -> str:
        sign = f"sign it (`ssh-keygen -Y sign -n {NAMESPACE} -f KEY {pex.name}`) and put {pex.name}.sig beside it"
        enlist = f"add the output of `sha256sum {pex.name}` to {self._digests_path}"
        ways = ([sign] if self._keys_path else []) + ([enlist] if self._digests_path else [])
        return f"{', or '.join(ways)}; Pexdock then admits it without a restart"

    def _digests(self) -> frozenset[str]:
        """Returns the digests of the list, in lower case.

        Raises:
            _Unreadable: The file cannot be read, or contains something else.
        """
        path = self._digests_path
        if path is None:
            return frozenset()
        found = set()
        for number, line in _lines(path):
            match = _DIGEST_LINE.fullmatch(line)
            if match is None:
                raise _Unreadable(f"line {number} of {path} is not a line as `sha256sum` prints it")
            found.add(match[1].lower())
        return frozenset(found)


def load_trust_policy(keys_path: Path | None, digests_path: Path | None) -> TrustPolicy | None:
    """Returns the policy; None if neither path is set. Then every pex in dist/ is trusted, and so is everybody who can write to dist/.

    Raises:
        PexdockError: A file is missing or has an invalid line.
    """
    if keys_path is None and digests_path is None:
        return None
    policy = TrustPolicy(keys_path, digests_path)
    policy.check_readable()
    return policy


class _Lacking(Exception):
    """The proof is missing or not valid."""


class _Unreadable(Exception):
    """A file of the operators is missing or invalid."""


def _signature_of(pex: Path) -> Path:
    """Returns the path of a pex's signature, at which `ssh-keygen -Y sign` writes it."""
    return pex.with_name(f"{pex.name}.sig")


def _verify_signature(copy: Path, signature: Path, keys_path: Path) -> str:
    from runtime.pex.trust import sshsig  # noqa: PLC0415 - imports `cryptography`, which most supervisors never need

    keys = _keys(keys_path)
    try:
        text = _read(signature).decode("ascii", errors="replace")
    except FileNotFoundError as exc:
        raise _Lacking(f"there is no signature {signature.name} beside it") from exc
    except OSError as exc:
        raise _Lacking(f"{signature.name} cannot be read: {exc.strerror or exc}") from exc
    try:
        key = sshsig.verify_signature(sshsig.parse_signature(text), copy, NAMESPACE, keys)
    except sshsig.BadSignature as exc:
        raise _Lacking(f"{signature.name} {exc}") from exc
    return f"signed with {key.fingerprint}{f' ({key.comment})' if key.comment else ''}"


def _keys(path: Path) -> list[sshsig.PublicKey]:
    """Returns all keys of a file, or of the `.pub` files of a folder.

    Raises:
        _Unreadable: A file cannot be read, or one of its lines is not a key.
    """
    from runtime.pex.trust import sshsig  # noqa: PLC0415 - as above

    found = []
    for file in sorted(path.glob("*.pub")) if path.is_dir() else [path]:
        for number, line in _lines(file):
            try:
                found.append(sshsig.parse_public_key(line))
            except sshsig.BadSignature as exc:
                raise _Unreadable(f"line {number} of {file} {exc}") from exc
    return found


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields the lines with their numbers, without empty lines and comments."""
    try:
        text = _read(path).decode()
    except (OSError, UnicodeDecodeError) as exc:
        raise _Unreadable(f"{path} cannot be read: {getattr(exc, 'strerror', None) or exc}") from exc
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            yield number, line.rstrip()


def _read(path: Path) -> bytes:
    """Reads a regular file of limited size, following links. Never blocks, unlike opening a FIFO."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, opened with its flags
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("it is not a regular file")
        data = file.read(_EVIDENCE_MAX_BYTES + 1)
    if len(data) > _EVIDENCE_MAX_BYTES:
        raise OSError(f"it is larger than {_EVIDENCE_MAX_BYTES} bytes")
    return data


def _file_identity(path: Path) -> tuple[int, ...]:
    """Returns a value that changes with the file; empty if it is missing."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
