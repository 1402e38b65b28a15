"""The cache folder of a supervisor: unpacked bases, and admitted releases with the venvs that their workers run in.

    <cache>/releases/<sha256>/<file name>             the admitted copy
    <cache>/releases/<sha256>/files/deps/<wheel>/     its own wheels, unpacked
    <cache>/releases/<sha256>/files/sources/          modules outside of wheels, in a pex that was built by hand
    <cache>/releases/<sha256>/<base>/venv/            imports these first, then the wheels of that base

The venv is made here and not by pex. Pex would have to run the file, which takes 3.5 s and 13 MB, and it makes a venv only for files that
were built with --venv.
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
import time
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

_QUIET_S = 0.5
"""Time in seconds without a removal after which the removal of a folder has ended."""


@dataclass(frozen=True)
class UnpackedBase:
    """An unpacked base.

    Attributes:
        folder: Its folder, which is a loose pex.
        sha256: Digest of the file from which it was unpacked.
        pexfile: The file from which it was unpacked.
    """

    folder: Path
    sha256: str
    pexfile: PexFile

    @property
    def version(self) -> str:
        """The version of the SDK in it."""
        return self.pexfile.version

    @property
    def exists(self) -> bool:
        """Returns whether its folder is there, which something may have removed since."""
        return unpack.has_valid_venv(self.folder)


@dataclass(frozen=True)
class AdmittedPex:
    """A private copy of a pex. It has the file's name, in a folder named by its digest."""

    path: Path
    sha256: str

    def is_complete(self, base: UnpackedBase | None) -> bool:
        """Returns whether the cache has the copy and, if a base is given, its content and its venv for this base."""
        return self.path.is_file() and (base is None or self.is_unpacked(base))

    def is_unpacked(self, base: UnpackedBase) -> bool:
        """Returns whether the cache has its content and its venv for this base."""
        release = self.path.parent
        return (release / "files").is_dir() and unpack.has_valid_venv(release / base.folder.name)


class PexCache:
    """The cache folder. Everything that it returns is held until `evict` or `close`, so that no process removes it.

    Several supervisors may share a cache, and none removes folders that another one holds. Methods may run in threads.

    Args:
        cache: The cache folder.
        report: Called with one line of progress at a time.
    """

    def __init__(self, cache: Path, report: Callable[[str], None] = lambda _line: None) -> None:
        self._cache = cache
        self._releases = cache / "releases"
        self._report = report
        self._held: dict[Path, int] = {}
        self._evicting = threading.Lock()
        self._own = Path(sys.prefix).parent if Path(sys.prefix).parent.parent == cache / "bases" else None
        if self._own is not None:
            self._hold(self._own)

    def unpack_base(self, pex: Path) -> UnpackedBase:
        """Unpacks a base, which takes 20 s the first time and no time later.

        Raises:
            PexRefused: The file is not a base, is damaged, or is for another interpreter.
        """
        pexfile = read_pex(pex, checksums=False)
        if pexfile.kind != "base":
            raise PexRefused(f"{pex.name} contains the model {pexfile.name} and is not a base")
        try:
            sha256 = unpack.file_sha256(pex, self._cache)
            with self._evicting:
                self._hold(unpack.base_folder(sha256, self._cache))
            folder = unpack.unpack_base(pex, self._cache, self._report)
        except (unpack.UnpackFailed, OSError) as exc:
            raise PexRefused(str(exc)) from exc
        if pex.parent.parent == self._releases:  # a copy that was made for verification; the unpacked base replaces it
            pex.unlink()
        return UnpackedBase(folder, sha256, pexfile)

    def admit(self, pex: Path, verify: Callable[[Path, str], object] = lambda _copy, _sha256: None) -> AdmittedPex:
        """Copies a pex into the cache and computes the digest of the copy.

        Args:
            pex: The file.
            verify: Called with the copy and its digest; an error that it raises ends the admission.

        Raises:
            PexRefused: The file cannot be read, or `verify` raised the error. No copy was left behind.
            OSError: The cache folder cannot be used.
        """
        locks.make_cache_folder(self._cache, self._releases.name)
        part = self._releases / f"{secrets.token_hex(8)}.part"
        try:
            sha256 = _copy(pex, part)
            verify(part, sha256)
            folder = self._releases / sha256
            with self._evicting:
                self._hold(folder)
                folder.mkdir(exist_ok=True)
                part.replace(folder / pex.name)
        except OSError as exc:
            raise PexRefused(f"{pex.name} cannot be copied into the cache: {exc}") from exc
        finally:
            part.unlink(missing_ok=True)
        return AdmittedPex(folder / pex.name, sha256)

    def worker_command(self, admitted: AdmittedPex, base: UnpackedBase) -> list[str]:
        """Unpacks a release unless that was done before, and returns the command of its workers. The release must be verified before.

        Raises:
            PexRefused: Its files cannot be unpacked. No file was left behind.
        """
        release = admitted.path.parent
        home = release / base.folder.name
        with locks.lock_folder(release, self._report):
            if not admitted.is_unpacked(base):
                _unpack_release(admitted, release / "files", home, base)
        return [str(unpack.venv_python(home)), "-I", "-u", "-X", "faulthandler", "-m", "base"]

    def restore_base(self, base: UnpackedBase, file: Path) -> None:
        """Unpacks a base again if something removed its folder. Waits for the end of a removal that is under way.

        Raises:
            PexRefused: Its file is missing or has other content, or cannot be unpacked.
            OSError: The cache folder cannot be used.
        """
        self._hold_again(base.folder)
        if not base.exists:
            _wait_for_removal(base.folder)
            self._check_content(file, base.sha256)
            shutil.rmtree(base.folder, ignore_errors=True)  # what is left may be incomplete
            self.unpack_base(file)

    def restore_release(self, admitted: AdmittedPex, file: Path, base: UnpackedBase | None) -> AdmittedPex:
        """Copies a release again if something removed its files, and unpacks it for a base. Waits for the end of a removal.

        Returns:
            Its copy, which has the name of the file if it is new.

        Raises:
            PexRefused: Its file is missing or has other content, or it cannot be unpacked.
            OSError: The cache folder cannot be used.
        """
        folder = admitted.path.parent
        self._hold_again(folder)
        if admitted.is_complete(base):
            return admitted
        _wait_for_removal(folder)
        if not admitted.path.is_file():
            self._check_content(file, admitted.sha256)
            admitted = self.admit(file, lambda _copy, sha256: _check_digest(file, sha256, admitted.sha256))
        for part in _folders(folder, re.compile(".*")):
            shutil.rmtree(part, ignore_errors=True)  # what is left may be incomplete
        if base is not None:
            self.worker_command(admitted, base)
        return admitted

    def evict(self, keep: Collection[str], max_bytes: int) -> None:
        """Removes releases that are not needed, unneeded bases beyond the limit, and leftovers of killed processes.

        Folders that another process holds always stay, and so does the base from which this process runs. Admissions wait meanwhile. A pex
        that was admitted before and is not in `keep` must no longer be used.

        Args:
            keep: sha256 of the releases and bases that are needed.
            max_bytes: Limit for all unpacked bases. Bases that are neither needed nor held stay within it, the most recently used first.
        """
        with self._evicting:
            for folder in _folders(self._releases, _DIGEST):
                if folder.name not in keep:
                    self._release(folder)
                    locks.remove_unused_folder(folder)
            self._evict_bases({unpack.base_folder(sha256, self._cache) for sha256 in keep if sha256}, max_bytes)
            remove_leftovers(self._cache)

    def _evict_bases(self, wanted: Collection[Path], max_bytes: int) -> None:
        folders = sorted(_folders(self._cache / "bases", unpack.NAME), key=lambda folder: folder.stat().st_mtime, reverse=True)
        total = 0
        for folder in [*(each for each in folders if each in wanted), *(each for each in folders if each not in wanted)]:
            total += _size_bytes(folder)
            if folder not in wanted and folder != self._own:
                self._release(folder)
                if total > max_bytes and locks.remove_unused_folder(folder):
                    log.info("%s: unpacked base removed, since it is not used and the cache is full", folder)

    def close(self) -> None:
        """Releases all folders. The files stay for the next start."""
        for folder in list(self._held):
            self._release(folder)

    def _check_content(self, file: Path, sha256: str) -> None:
        """Raises PexRefused unless a file has this digest. Nothing is written beside the folders, whose changes may be watched."""
        try:
            found = unpack.file_sha256(file, self._cache)
        except OSError as exc:
            raise PexRefused(f"{file} cannot be read: {exc.strerror or exc}") from exc
        _check_digest(file, found, sha256)

    def _hold_again(self, folder: Path) -> None:
        """Holds a folder whose lock something may have removed."""
        with self._evicting:
            if folder in self._held and not locks.is_held(folder, self._held[folder]):
                self._release(folder)
            self._hold(folder)

    def _hold(self, folder: Path) -> None:
        if folder not in self._held:
            self._held[folder] = locks.hold_folder(folder)

    def _release(self, folder: Path) -> None:
        if folder in self._held:
            os.close(self._held.pop(folder))


def _wait_for_removal(folder: Path) -> None:
    """Waits until the number of files in a folder stays the same, since what is made during its removal would be removed too."""
    before = -1
    while (count := sum(len(names) for _, _, names in os.walk(folder))) != before:
        before = count
        time.sleep(_QUIET_S)


def _check_digest(file: Path, found: str, expected: str) -> None:
    if found != expected:
        raise PexRefused(f"{file} has other content now")


def _folders(parent: Path, name: re.Pattern[str]) -> list[Path]:
    return [entry for entry in parent.iterdir() if entry.is_dir() and name.fullmatch(entry.name)] if parent.is_dir() else []


def _size_bytes(folder: Path) -> int:
    """Returns the disk space that the files of a folder take."""
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


def _unpack_release(admitted: AdmittedPex, files: Path, home: Path, base: UnpackedBase) -> None:
    """Unpacks a release unless that was done for another base, and makes its venv. Called with the lock held."""
    try:
        if not files.is_dir():
            part = files.with_name("files.part")
            shutil.rmtree(part, ignore_errors=True)
            try:
                _extract(admitted.path, part)
            except BaseException:
                shutil.rmtree(part, ignore_errors=True)  # the disk may be full, and others need the space
                raise
            part.rename(files)
        unpack.make_venv(home / "venv", [files / "sources", *sorted((files / "deps").iterdir()), *unpack.wheel_folders(base.folder)])
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as exc:
        raise PexRefused(f"{admitted.path.name} cannot be unpacked: {exc}") from exc


def _extract(pex: Path, target: Path) -> None:
    """Extracts all files of a pex except pex's own files."""
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
    """Returns the path that a wheel's file has after installation. Only whole wheel files have a .data folder with modules."""
    return _DATA_MODULES.sub("", name)
