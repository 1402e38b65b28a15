"""A base pex, unpacked and byte-compiled once into a folder named by its digest.

Standard library only: the start script runs this file straight out of the base pex, before anything of it is unpacked.

    <cache>/bases/<first 16 of the sha256>/         a loose pex, which PEX_PATH may name
    <cache>/bases/<first 16 of the sha256>/venv/    a venv whose .pth file names the folders of the base's distributions
    <cache>/bases/<first 16 of the sha256>.lock     and .used: see `locks`
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import venv
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from runtime.atomic_file import write_atomically
from runtime.pex.locks import Report, lock_folder, remove_unused_folder, sibling_path

NAME = re.compile("[0-9a-f]{16}")
"""Of the folder of an unpacked base."""

_KEPT_BASES = 3
"""Each takes some 900 MB. Those in use are kept in any case."""

_REPORT_EVERY_S = 2.0
# A file that changed this recently may change again within the resolution of its time stamps.
_RACY_NS = 2_000_000_000
_COPY_BYTES = 1024 * 1024
_COMPILE_PROCESSES = "2"


class UnpackFailed(Exception):
    """The base cannot be unpacked. Nothing was left behind. No PexdockError, since nothing of ours can be imported here."""


def unpack_base(pex: Path, cache: Path, report: Report) -> Path:
    """The folder of an unpacked base, made if it is not there. Safe to call from several processes at once.

    Args:
        pex: the base's file.
        cache: the cache folder.
        report: takes one line of progress at a time.

    Raises:
        UnpackFailed: the file is damaged, changed meanwhile, or is for another interpreter.
    """
    folder = base_folder(file_sha256(pex, cache), cache)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not has_valid_venv(folder):
        with lock_folder(folder, report):
            if not folder.is_dir():
                _unpack_into(pex, folder, report)
            if not has_valid_venv(folder):
                make_venv(folder / "venv", wheel_folders(folder))
        _remove_old_bases(folder.parent, keep=folder)
    os.utime(folder)
    return folder


def base_folder(sha256: str, cache: Path) -> Path:
    """Where the base of that digest lies or would lie."""
    return cache / "bases" / sha256[:16]


def venv_python(folder: Path) -> Path:
    """The interpreter of the venv in a folder; for an unpacked base it finds all that the base holds."""
    return folder / "venv" / "bin" / "python"


def file_sha256(path: Path, cache: Path) -> str:
    """The sha256 of a file in hex, remembered by its path, size, times and inode."""
    stat = path.stat()
    key = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_dev]
    note = cache / "digests" / hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        remembered = json.loads(note.read_text())
        if remembered["key"] == key:
            return str(remembered["sha256"])
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > _RACY_NS:
        note.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(note, json.dumps({"path": str(path.resolve()), "key": key, "sha256": sha256}).encode())
    return sha256


def has_valid_venv(folder: Path) -> bool:
    """Whether the folder's venv is there and belongs to the interpreter that runs here."""
    interpreter = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    return (folder / "venv" / "pyvenv.cfg").is_file() and os.path.realpath(venv_python(folder)) == interpreter


def _unpack_into(pex: Path, folder: Path, report: Report) -> None:
    """Unpack and compile aside, then rename. Called with the lock held, so that nobody else works aside."""
    aside = sibling_path(folder, "part")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        _extract(pex, folder.name, aside, report)
        _compile(aside, folder, report)
        make_venv(aside / "venv", wheel_folders(aside))
        # One flush for 12 000 files; without it a power cut could leave a folder of empty files under its final name.
        os.sync()
        aside.rename(folder)
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError) as exc:
        shutil.rmtree(aside, ignore_errors=True)
        raise UnpackFailed(f"{pex.name} cannot be unpacked: {exc}") from exc
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def _extract(pex: Path, sha256: str, aside: Path, report: Report) -> None:
    with pex.open("rb") as file, zipfile.ZipFile(file) as archive:
        _check_interpreter(pex, archive)
        members = [member for member in archive.infolist() if not member.is_dir()]
        progress = _Progress(report, f"unpacking {pex.name}", "files", len(members))
        for member in members:
            extract_member(archive, member, aside / member.filename)
            progress.step()
        file.seek(0)
        # The name of the folder is a promise about what lies in it; the file may have been changed since its digest was taken.
        if not hashlib.file_digest(file, "sha256").hexdigest().startswith(sha256):
            raise ValueError("it changed while it was read")
    progress.done()


def extract_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    """One file, with its x bits, which `ZipFile.extract` would drop. Reading to the end compares its CRC.

    Raises:
        ValueError: its name would leave the folder that it belongs to.
    """
    if member.filename.startswith("/") or ".." in member.filename.split("/"):
        raise ValueError(f"a member of it would leave its folder: {member.filename!r}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as source, target.open("xb") as copy:
        shutil.copyfileobj(source, copy, _COPY_BYTES)
        if member.external_attr >> 16 & 0o100:
            os.fchmod(copy.fileno(), 0o755)


def _check_interpreter(pex: Path, archive: zipfile.ZipFile) -> None:
    constraints = json.loads(archive.read("PEX-INFO")).get("interpreter_constraints") or []
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    minors = [match[1] for text in constraints if (match := re.fullmatch(r"CPython==(\d+\.\d+)\.\*", text))]
    if minors and here not in minors:
        raise UnpackFailed(f"{pex.name} is for Python {' or '.join(minors)}, and this is {here}: start it with the other one")


def _compile(aside: Path, folder: Path, report: Report) -> None:
    """Byte-compile as if it lay in its final place. In a process of its own, since compileall would fork this one.

    A file that does not compile (a template, a test of a syntax error) fails when it is imported, as it would without this. Unbuffered,
    since it ends by what it says when there is nobody left to read that.
    """
    total = sum(1 for _ in aside.rglob("*.py"))
    progress = _Progress(report, "compiling", "modules", total)
    command = [sys.executable, "-I", "-u", "-m", "compileall", "-f", "-j", _COMPILE_PROCESSES, "--invalidation-mode", "unchecked-hash"]
    command += ["-s", str(aside), "-p", str(folder), str(aside / ".deps"), str(aside / ".bootstrap")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        for line in process.stdout or ():
            if line.startswith(b"Compiling "):
                progress.step()
    if process.returncode < 0:  # what is half compiled must not take the place of a base
        raise ChildProcessError(f"its compilation was killed by signal {-process.returncode}")
    progress.done()


def make_venv(target: Path, folders: Sequence[Path]) -> None:
    """A venv of the interpreter that runs here, whose imports search `folders` in their order, each an unpacked wheel.

    The paths in it are relative, so it may be renamed together with the folders. A wheel that ships .pth files gets them executed, as in
    an installation.
    """
    shutil.rmtree(target, ignore_errors=True)
    venv.EnvBuilder(symlinks=True, with_pip=False).create(target)
    site_packages = next(target.glob("lib/python*/site-packages"))
    lines = [_pth_line(folder, site_packages) for folder in folders]
    (site_packages / "pexdock.pth").write_text("".join(f"{line}\n" for line in lines))


def _pth_line(folder: Path, site_packages: Path) -> str:
    """`site` adds a plain line to sys.path, and executes one that begins with `import`."""
    way = os.path.relpath(folder, site_packages)
    if any(folder.glob("*.pth")):
        return f"import os, site; site.addsitedir(os.path.normpath(os.path.join(sitedir, {way!r})))"
    return way


def wheel_folders(folder: Path) -> list[Path]:
    """The unpacked wheels of a loose base."""
    return sorted(entry for entry in (folder / ".deps").iterdir() if entry.is_dir())


def _remove_old_bases(bases: Path, keep: Path) -> None:
    """Remove unpacked bases that were not used lately and that nobody holds."""
    folders = [entry for entry in bases.iterdir() if entry.is_dir() and NAME.fullmatch(entry.name) and entry != keep]
    by_use = sorted(folders, key=lambda entry: entry.stat().st_mtime, reverse=True)
    for folder in by_use[_KEPT_BASES - 1 :]:
        remove_unused_folder(folder)


class _Progress:
    """Counts steps and reports how far they are every few seconds."""

    def __init__(self, report: Report, what: str, of: str, total: int) -> None:
        self._report, self._what, self._of, self._total = report, what, of, total
        self._count = 0
        self._start = self._last = time.monotonic()

    def step(self) -> None:
        self._count += 1
        now = time.monotonic()
        if now - self._last > _REPORT_EVERY_S:
            self._last = now
            self._report(f"{self._what}: {self._count} of {self._total} {self._of}, {now - self._start:.0f} s")

    def done(self) -> None:
        self._report(f"{self._what}: {self._total} {self._of} in {time.monotonic() - self._start:.1f} s")


def main(argv: list[str]) -> int:
    """`python -m runtime.pex.unpack PEX CACHE [ANSWER]`: write the folder to stdout or into the file ANSWER; progress goes to stderr."""
    try:
        pex, cache, *answer = argv
        folder = unpack_base(Path(pex), Path(cache).resolve(), _report_to_stderr)
        Path(answer[0] if answer else "/dev/stdout").write_text(f"{folder}\n")
    except (UnpackFailed, OSError, ValueError) as exc:
        _report_to_stderr(f"error: {exc}")
        return 1
    except KeyboardInterrupt:  # the start script passes on that it was told to end; what lay aside is gone by now
        return 130
    return 0


def _report_to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
