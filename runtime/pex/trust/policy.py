"""Who vouches for a pex: a signature beside it, made with a trusted key, or a list that has its digest. Runs nothing of the pex.

What vouches is read anew each time. So a key that was added counts at once, and one that was removed admits nothing any more; what was
admitted before goes on.
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
"""What a signature must have been made for, so that one for something else, a commit or a mail, admits no pex."""

_EVIDENCE_MAX_BYTES = 1024 * 1024
_DIGEST_LINE = re.compile(r"\\?([0-9a-fA-F]{64})(?: [ *].+)?")

Evidence = tuple[tuple[int, ...], ...]


class Untrusted(PexRefused):
    """Nobody vouches for the pex. `evidence` is what was there to look at; when it changes, looking again is worth it."""

    code = "pex_untrusted"

    def __init__(self, detail: str, evidence: Evidence) -> None:
        super().__init__(detail)
        self.evidence = evidence


class TrustPolicy:
    """The keys and the digests that operators trust.

    Args:
        keys_path: a file of public keys, or a folder of `.pub` files; None where signatures do not count.
        digests_path: a file of lines as `sha256sum` prints; None where there is no such list.
    """

    def __init__(self, keys_path: Path | None, digests_path: Path | None) -> None:
        self._keys_path = keys_path
        self._digests_path = digests_path

    @property
    def paths(self) -> list[Path]:
        """What a change of which may change the answer, beside signatures."""
        return [path for path in (self._keys_path, self._digests_path) if path is not None]

    def check_readable(self) -> None:
        """Find mistakes before anything is served.

        Raises:
            PexdockError: a file is missing or has a line that is not understood.
        """
        try:
            self._digests()
            if self._keys_path is not None:
                _keys(self._keys_path)
        except _Unreadable as exc:
            raise PexdockError(f"{exc}; until that is mended nothing can be trusted") from exc

    def evidence(self, pex: Path) -> Evidence:
        """A mark that differs once the signature beside `pex`, the keys or the list have changed."""
        folder = self._keys_path
        keys = sorted(folder.glob("*.pub")) if folder is not None and folder.is_dir() else []
        return tuple(_mark(path) for path in (_signature_of(pex), *self.paths, *keys))

    def verify(self, pex: Path, copy: Path, sha256: str) -> str:
        """Who vouches for a pex, in words.

        Args:
            pex: the file, which may become another at any time; its signature lies beside it.
            copy: the content in question, where nobody else writes.
            sha256: of that copy.

        Raises:
            Untrusted: nobody does; the message says what to do. Nothing was changed.
        """
        seen = self.evidence(pex)
        try:
            if sha256 in self._digests():
                return f"listed in {self._digests_path}"
            if self._keys_path is None:
                raise _Lacking(f"its sha256, {sha256}, is not in {self._digests_path}")
            return _signed_by(copy, _signature_of(pex), self._keys_path)
        except (_Lacking, _Unreadable) as exc:
            raise Untrusted(f"{pex.name}: nobody vouches for it: {exc}; {self._ways_out(pex)}", seen) from exc

    def _ways_out(self, pex: Path) -> str:
        sign = f"sign it (`ssh-keygen -Y sign -n {NAMESPACE} -f KEY {pex.name}`) and put {pex.name}.sig beside it"
        enlist = f"add what `sha256sum {pex.name}` prints to {self._digests_path}"
        ways = ([sign] if self._keys_path else []) + ([enlist] if self._digests_path else [])
        return f"{', or '.join(ways)}; it is then taken up by itself"

    def _digests(self) -> frozenset[str]:
        """The list, lower case.

        Raises:
            _Unreadable: the file cannot be read, or holds something else.
        """
        path = self._digests_path
        if path is None:
            return frozenset()
        found = set()
        for number, line in _lines(path):
            match = _DIGEST_LINE.fullmatch(line)
            if match is None:
                raise _Unreadable(f"line {number} of {path} is not one of `sha256sum`")
            found.add(match[1].lower())
        return frozenset(found)


def load_trust_policy(keys_path: Path | None, digests_path: Path | None) -> TrustPolicy | None:
    """None where neither is set: then every pex that lies in dist/ is trusted, as whoever may write there is.

    Raises:
        PexdockError: a file is missing or has a line that is not understood.
    """
    if keys_path is None and digests_path is None:
        return None
    trust = TrustPolicy(keys_path, digests_path)
    trust.check_readable()
    return trust


class _Lacking(Exception):
    """What should vouch is not there or does not hold."""


class _Unreadable(Exception):
    """A file that operators wrote cannot be understood."""


def _signature_of(pex: Path) -> Path:
    """Where a pex's signature is looked for: where `ssh-keygen -Y sign` puts it."""
    return pex.with_name(f"{pex.name}.sig")


def _signed_by(copy: Path, signature: Path, keys_path: Path) -> str:
    from runtime.pex.trust import sshsig  # noqa: PLC0415 - brings `cryptography`, which most supervisors never need

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
    """All keys of a file, or of the `.pub` files of a folder.

    Raises:
        _Unreadable: a file cannot be read, or a line of it is no key.
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
    """Numbered lines but empty ones and comments."""
    try:
        text = _read(path).decode()
    except (OSError, UnicodeDecodeError) as exc:
        raise _Unreadable(f"{path} cannot be read: {getattr(exc, 'strerror', None) or exc}") from exc
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            yield number, line.rstrip()


def _read(path: Path) -> bytes:
    """A regular file, also behind a link, within bounds; never waits, as opening a FIFO would."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, opened with its flags
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("it is no regular file")
        data = file.read(_EVIDENCE_MAX_BYTES + 1)
    if len(data) > _EVIDENCE_MAX_BYTES:
        raise OSError(f"it is over {_EVIDENCE_MAX_BYTES} bytes")
    return data


def _mark(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
