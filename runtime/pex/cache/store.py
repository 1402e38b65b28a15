"""The cache folder of a supervisor: unpacked bases, and admitted releases with the venvs that workers start from.

    <cache>/releases/<sha256>/<file name>             the admitted copy
    <cache>/releases/<sha256>/files/deps/<wheel>/     what it carries, unpacked
    <cache>/releases/<sha256>/files/sources/          modules that a pex built by hand holds outside of wheels
    <cache>/releases/<sha256>/<base>/venv/            finds those first, then the wheels of that base

The venv is made here and not by pex, since pex would have to run the file, needs 3.5 s and 13 MB for it, and does it only for
files that were built with --venv.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
import shutil
import sys
import threading
import zipfile
import zlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from base.errors import PexRefused
from runtime.pex import archive as zips
from runtime.pex import locks, unpack
from runtime.pex.cache.leftovers import remove_leftovers
from runtime.pex.file import PexFile, read_pex, source_files

log = logging.getLogger(__name__)

_DIGEST = re.compile("[0-9a-f]{64}")
_DATA_MODULES = re.compile(r"^[^/]+\.data/(purelib|platlib)/")
_COPY_BYTES = 1024 * 1024


@dataclass(frozen=True)
class UnpackedBase:
    """An unpacked base. `folder` is a loose pex; `sha256` is the digest of the file that it came from."""

    folder: Path
    sha256: str
    pexfile: PexFile

    @property
    def version(self) -> str:
        """The version of the SDK in it."""
        return self.pexfile.version


@dataclass(frozen=True)
class AdmittedPex:
    """A copy of a pex that nobody else writes to. It keeps the file's name, under a folder named by its digest."""

    path: Path
    sha256: str


class PexCache:
    """Owns the cache folder's `releases`, and holds what it handed out until `sweep` or `close`.

    Several supervisors may share a cache: none removes what another holds. Methods may run in threads.
    """

    def __init__(self, cache: Path, report: Callable[[str], None] = lambda _line: None) -> None:
        self._cache = cache
        self._releases = cache / "releases"
        self._report = report
        self._held: dict[Path, int] = {}
        self._sweeping = threading.Lock()
        self._own = Path(sys.prefix).parent if Path(sys.prefix).parent.parent == cache / "bases" else None
        if self._own is not None:
            self._hold(self._own)

    def unpack_base(self, pex: Path) -> UnpackedBase:
        """Unpack a base, which takes 20 s the first time and nothing later.

        Raises:
            PexRefused: it is no base, is damaged, or is for another interpreter.
        """
        pexfile = read_pex(pex, checksums=False)
        if pexfile.kind != "base":
            raise PexRefused(f"{pex.name} is the model {pexfile.name}, where a base is wanted")
        try:
            sha256 = unpack.file_sha256(pex, self._cache)
            with self._sweeping:
                self._hold(unpack.base_folder(sha256, self._cache))
            folder = unpack.unpack_base(pex, self._cache, self._report)
        except (unpack.UnpackFailed, OSError) as exc:
            raise PexRefused(str(exc)) from exc
        if pex.parent.parent == self._releases:  # a copy that was made to be trusted; what is unpacked takes its place
            pex.unlink()
        return UnpackedBase(folder, sha256, pexfile)

    def admit(self, pex: Path, vouch: Callable[[Path, str], object] = lambda _copy, _sha256: None) -> AdmittedPex:
        """Copy a pex into the cache and take the digest of the copy.

        Args:
            pex: the file.
            vouch: called with the copy and its digest; what it raises ends the admission.

        Raises:
            PexRefused: it cannot be read, or `vouch` raised it. Nothing was left behind.
        """
        self._releases.mkdir(parents=True, exist_ok=True)
        aside = self._releases / f"{secrets.token_hex(8)}.part"
        try:
            sha256 = _copy(pex, aside)
            vouch(aside, sha256)
            folder = self._releases / sha256
            with self._sweeping:
                self._hold(folder)
                folder.mkdir(exist_ok=True)
                aside.replace(folder / pex.name)
        except OSError as exc:
            raise PexRefused(f"{pex.name} cannot be copied into the cache: {exc}") from exc
        finally:
            aside.unlink(missing_ok=True)
        return AdmittedPex(folder / pex.name, sha256)

    def worker_command(self, admitted: AdmittedPex, base: UnpackedBase) -> list[str]:
        """The command that starts a worker of this release on this base. Call it after the release was verified.

        Raises:
            PexRefused: its files cannot be unpacked. Nothing was left behind.
        """
        release = admitted.path.parent
        home = release / base.folder.name
        with locks.lock_folder(release, self._report):
            if not unpack.has_valid_venv(home):
                _make(admitted, release / "files", home, base)
        return [str(unpack.venv_python(home)), "-I", "-u", "-X", "faulthandler", "-m", "base"]

    def evict(self, keep: Collection[str], max_bytes: int) -> None:
        """Clean the cache: of releases that are gone, of bases that are gone and over a bound, of what killed processes left.

        What another process holds stays in any case, and so does the base that this process runs out of. Whoever admits something
        meanwhile waits; what was admitted before and is not in `keep` must not be used any more.

        Args:
            keep: sha256 of what is wanted still, releases and bases.
            max_bytes: of all unpacked bases; of those that nobody wants or holds, the ones used last are kept within it.
        """
        with self._sweeping:
            for folder in _folders(self._releases, _DIGEST):
                if folder.name not in keep:
                    self._let_go(folder)
                    locks.remove_unused_folder(folder)
            self._sweep_bases({unpack.base_folder(sha256, self._cache) for sha256 in keep if sha256}, max_bytes)
            remove_leftovers(self._cache)

    def _sweep_bases(self, wanted: Collection[Path], max_bytes: int) -> None:
        folders = sorted(_folders(self._cache / "bases", unpack.NAME), key=lambda folder: folder.stat().st_mtime, reverse=True)
        total = 0
        for folder in [*(each for each in folders if each in wanted), *(each for each in folders if each not in wanted)]:
            total += _size_bytes(folder)
            if folder not in wanted and folder != self._own:
                self._let_go(folder)
                if total > max_bytes and locks.remove_unused_folder(folder):
                    log.info("%s: unpacked base removed, since nobody uses it and the cache is full", folder)

    def close(self) -> None:
        """Let go of everything. The files stay for the next start."""
        for folder in list(self._held):
            self._let_go(folder)

    def _hold(self, folder: Path) -> None:
        if folder not in self._held:
            self._held[folder] = locks.hold_folder(folder)

    def _let_go(self, folder: Path) -> None:
        if folder in self._held:
            os.close(self._held.pop(folder))


def _folders(parent: Path, name: re.Pattern[str]) -> list[Path]:
    return [entry for entry in parent.iterdir() if entry.is_dir() and name.fullmatch(entry.name)] if parent.is_dir() else []


def _size_bytes(folder: Path) -> int:
    """What its files take on the disk."""
    return sum(os.lstat(Path(place) / name).st_blocks * 512 for place, _, names in os.walk(folder) for name in names)


def _copy(source: Path, target: Path) -> str:
    digest = hashlib.sha256()
    with source.open("rb") as file, target.open("xb") as copy:
        while data := file.read(_COPY_BYTES):
            digest.update(data)
            copy.write(data)
        copy.flush()
        os.fsync(copy.fileno())
    return digest.hexdigest()


def _make(admitted: AdmittedPex, files: Path, home: Path, base: UnpackedBase) -> None:
    """Unpack the release where that was not done for another base yet, and make its venv. Called with the lock held."""
    try:
        if not files.is_dir():
            aside = files.with_name("files.part")
            shutil.rmtree(aside, ignore_errors=True)
            try:
                _extract(admitted.path, aside)
            except BaseException:
                shutil.rmtree(aside, ignore_errors=True)  # the disk may be full, and somebody else may need what is left of it
                raise
            aside.rename(files)
        unpack.make_venv(home / "venv", [files / "sources", *sorted((files / "deps").iterdir()), *unpack.wheel_folders(base.folder)])
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as exc:
        raise PexRefused(f"{admitted.path.name} cannot be unpacked: {exc}") from exc


def _extract(pex: Path, target: Path) -> None:
    """Everything in a pex but pex itself."""
    wheels = [distribution.wheel for distribution in read_pex(pex, checksums=False).distributions.values()]
    with zips.open_archive(pex) as archive:
        for name in source_files(archive):
            unpack.extract_member(archive, archive.getinfo(name), target / "sources" / name)
        for wheel in wheels:
            if zips.has_member(archive, f".deps/{wheel}"):
                with zips.open_nested_archive(archive, f".deps/{wheel}") as inner:
                    _extract_folder(inner, "", target / "deps" / wheel)
            else:
                _extract_folder(archive, f".deps/{wheel}/", target / "deps" / wheel)


def _extract_folder(archive: zipfile.ZipFile, folder: str, target: Path) -> None:
    for member in archive.infolist():
        if member.filename.startswith(folder) and not member.is_dir():
            unpack.extract_member(archive, member, target / _installed(member.filename.removeprefix(folder)))


def _installed(name: str) -> str:
    """Where a file of a wheel lands when the wheel is installed; only wheels as they are hold a .data folder with modules in it."""
    return _DATA_MODULES.sub("", name)
