"""Unpacks and byte-compiles a base pex once, into a folder named by its digest.

The start script of an image (entrypoint.sh) imports `main` from exactly this path, `runtime/pex/unpack.py`, in any base.pex that it finds,
before the base is unpacked. So this module must stay here, and it and its imports must use only the standard library.

    <cache>/bases/<first 16 digits of the sha256>/         a loose pex, which PEX_PATH may name
    <cache>/bases/<first 16 digits of the sha256>/venv/    a venv whose .pth file names the folders of the base's distributions
    <cache>/bases/<first 16 digits of the sha256>.lock     and .used: see `locks`
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import venv
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from runtime.atomic_file import write_atomically
from runtime.pex.locks import Report, lock_folder, make_cache_folder, remove_unused_folder, sibling_path

NAME = re.compile("[0-9a-f]{16}")
"""Name of the folder of an unpacked base."""

_KEPT_BASES = 3
"""Number of unpacked bases that are kept, of about 900 MB each. Bases in use are always kept."""

_REPORT_EVERY_S = 2.0
# A file that changed this recently may change again within the resolution of its timestamps.
_RACY_NS = 2_000_000_000
_COPY_BYTES = 1024 * 1024
_COMPILE_PROCESSES = "2"


class UnpackFailed(Exception):
    """The base cannot be unpacked; no files of it are left. Not a PexdockError, since `base` cannot be imported here."""


def unpack_base(pex: Path, cache: Path, report: Report) -> Path:
    """Unpacks a base unless that was done before, and returns its folder. Safe to call from several processes at once.

    Args:
        pex: The base's file.
        cache: The cache folder.
        report: Called with one line of progress at a time.

    Raises:
        UnpackFailed: The file is damaged, has changed meanwhile, or is for another interpreter.
        OSError: The cache folder cannot be used.
    """
    folder = base_folder(file_sha256(pex, cache), cache)
    make_cache_folder(cache, "bases")
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
    """Returns the folder of the base with this digest, whether it exists or not."""
    return cache / "bases" / sha256[:16]


def venv_python(folder: Path) -> Path:
    """Returns the interpreter of the venv in a folder. The interpreter of an unpacked base can import everything in the base."""
    return folder / "venv" / "bin" / "python"


def file_sha256(path: Path, cache: Path) -> str:
    """Returns the sha256 of a file in hex, which is cached by the file's path, size, times and inode."""
    stat = path.stat()
    key = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_dev]
    note = make_cache_folder(cache, "digests") / hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        remembered = json.loads(note.read_text())
        if remembered["key"] == key:
            return str(remembered["sha256"])
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > _RACY_NS:
        write_atomically(note, json.dumps({"path": str(path.resolve()), "key": key, "sha256": sha256}).encode())
    return sha256


def has_valid_venv(folder: Path) -> bool:
    """Returns whether the folder has a venv of the present interpreter."""
    return (folder / "venv" / "pyvenv.cfg").is_file() and os.path.realpath(venv_python(folder)) == os.path.realpath(_base_interpreter())


def _base_interpreter() -> str:
    """Returns the interpreter of this process outside of any venv, which may be one in the cache that is being made again."""
    return str(getattr(sys, "_base_executable", sys.executable))


def _unpack_into(pex: Path, folder: Path, report: Report) -> None:
    """Unpacks and compiles under a temporary name, then renames. Called with the lock held, so that no other process uses that name."""
    part = sibling_path(folder, "part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        _extract(pex, folder.name, part, report)
        _compile(part, folder, report)
        make_venv(part / "venv", wheel_folders(part))
        # One flush for 12 000 files. Without it, a power failure could leave a folder of empty files under its final name.
        os.sync()
        part.rename(folder)
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError) as exc:
        shutil.rmtree(part, ignore_errors=True)
        raise UnpackFailed(f"{pex.name} cannot be unpacked: {exc}") from exc
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _extract(pex: Path, sha256: str, target: Path, report: Report) -> None:
    with pex.open("rb") as file, zipfile.ZipFile(file) as archive:
        _check_interpreter(pex, archive)
        members = [member for member in archive.infolist() if not member.is_dir()]
        progress = _Progress(report, f"unpacking {pex.name}", "files", len(members))
        for member in members:
            extract_member(archive, member, target / member.filename)
            progress.step()
        file.seek(0)
        # The folder is named by the digest of its content, and the file may have changed since its digest was computed.
        if not hashlib.file_digest(file, "sha256").hexdigest().startswith(sha256):
            raise ValueError("the file changed while it was read")
    progress.done()


def extract_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    """Extracts one file with its executable bits, which `ZipFile.extract` would drop. Compares its CRC, since it is read to the end.

    Raises:
        ValueError: The path of the member leads out of the folder.
    """
    if member.filename.startswith("/") or ".." in member.filename.split("/"):
        raise ValueError(f"the path of a member leads out of the folder: {member.filename!r}")
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
        raise UnpackFailed(f"{pex.name} needs Python {' or '.join(minors)}, and this is {here}; set PEXDOCK_PYTHON to the right one")


def _compile(part: Path, folder: Path, report: Report) -> None:
    """Byte-compiles all files, with the paths of the final folder. Uses another process, since compileall would fork this one.

    A file that does not compile (a template, a test of a syntax error) fails when it is imported, as it would without byte-compilation. The
    output of the process is unbuffered, so that SIGPIPE kills it when nobody is left to read its output.
    """
    total = sum(1 for _ in part.rglob("*.py"))
    progress = _Progress(report, "compiling", "modules", total)
    command = [_base_interpreter(), "-I", "-u", "-m", "compileall", "-f", "-j", _COMPILE_PROCESSES, "--invalidation-mode", "unchecked-hash"]
    command += ["-s", str(part), "-p", str(folder), str(part / ".deps"), str(part / ".bootstrap")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        for line in process.stdout or ():
            if line.startswith(b"Compiling "):
                progress.step()
    if process.returncode < 0:  # a base must not be partly compiled
        raise ChildProcessError(f"the compiler was killed by signal {-process.returncode}")
    progress.done()


def make_venv(target: Path, folders: Sequence[Path]) -> None:
    """Makes a venv of the present interpreter. Its imports search `folders`, each an unpacked wheel, in their order.

    The paths in the venv are relative, so it may be renamed together with the folders. The .pth files in wheels are executed, as in an
    installation.
    """
    shutil.rmtree(target, ignore_errors=True)
    venv.EnvBuilder(symlinks=True, with_pip=False).create(target)
    site_packages = next(target.glob("lib/python*/site-packages"))
    lines = [_pth_line(folder, site_packages) for folder in folders]
    (site_packages / "pexdock.pth").write_text("".join(f"{line}\n" for line in lines))


def _pth_line(folder: Path, site_packages: Path) -> str:
    """Returns the .pth line for a folder. `site` adds a plain line to sys.path, and executes a line that begins with `import`."""
    path = os.path.relpath(folder, site_packages)
    if any(folder.glob("*.pth")):
        return f"import os, site; site.addsitedir(os.path.normpath(os.path.join(sitedir, {path!r})))"
    return path


def wheel_folders(folder: Path) -> list[Path]:
    """Returns the folders of the unpacked wheels of a base."""
    return sorted(entry for entry in (folder / ".deps").iterdir() if entry.is_dir())


def _remove_old_bases(bases: Path, keep: Path) -> None:
    """Removes the unpacked bases that were not used recently and that no process holds."""
    folders = [entry for entry in bases.iterdir() if entry.is_dir() and NAME.fullmatch(entry.name) and entry != keep]
    by_use = sorted(folders, key=lambda entry: entry.stat().st_mtime, reverse=True)
    for folder in by_use[_KEPT_BASES - 1 :]:
        remove_unused_folder(folder)


class _Progress:
    """Counts steps, and reports their number every few seconds."""

    def __init__(self, report: Report, what: str, unit: str, total: int) -> None:
        self._report, self._what, self._unit, self._total = report, what, unit, total
        self._count = 0
        self._start = self._last = time.monotonic()

    def step(self) -> None:
        self._count += 1
        now = time.monotonic()
        if now - self._last > _REPORT_EVERY_S:
            self._last = now
            self._report(f"{self._what}: {self._count} of {self._total} {self._unit}, {now - self._start:.0f} s")

    def done(self) -> None:
        self._report(f"{self._what}: {self._total} {self._unit} in {time.monotonic() - self._start:.1f} s")


def main(argv: list[str]) -> int:
    """Runs `python -m runtime.pex.unpack PEX CACHE [OUTPUT]`: writes the folder to stdout or to the file OUTPUT, and progress to stderr."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # temporary files are removed
    try:
        pex, cache, *output = argv
        folder = unpack_base(Path(pex), Path(cache).resolve(), _report_to_stderr)
        Path(output[0] if output else "/dev/stdout").write_text(f"{folder}\n")
    except (UnpackFailed, OSError, ValueError) as exc:
        _report_to_stderr(f"error: {exc}")
        return 1
    except KeyboardInterrupt:  # the start script forwards stop signals
        return 130
    return 0


def _report_to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
