"""Packs wheels into a pex, once for each fingerprint; the result is kept in the cache, and copied to its place atomically."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from packaging.utils import parse_wheel_filename

from base.errors import PexRefused
from runtime.atomic_file import replace_atomically
from runtime.build import tool
from runtime.build.build_cache import prune_to_newest, temporary_folder
from runtime.build.tool import BuildFailed
from runtime.pex import archive as zips
from runtime.pex.distribution import Distribution
from runtime.pex.file import STAMP_PROPERTY, PexFile, Stamp, read_pex, read_stamp
from runtime.pex.locks import Report, lock_folder, make_cache_folder
from runtime.pex.unpack import file_sha256

_KEPT_BUILDS = {"base": 2, "model": 30}
"""Number of builds to keep. A base takes about 200 MB, most models little more than 1 MB."""

_PEX_CHANGES = re.compile(r"^[^/]+\.(data/|dist-info/RECORD$)")
"""Files of a wheel that pex moves or changes when it installs the wheel."""


@dataclass(frozen=True)
class BuiltPex:
    """A pex in its place.

    Attributes:
        path: Its file.
        kind: "base" or "model".
        name: Name of the model, or of the SDK.
        version: Its version.
        size_bytes: Size of the file.
        sha256: Digest of the file.
        bootstrap_bytes: Size of pex's own part of the file, with the zip's directory.
        own_bytes: Size of the distributions.
        sbom: The file that lists the distributions.
        carried: Name, version and size in bytes of the distributions that a model carries besides itself, the largest first.
        reused: Nothing had to be built.
        warnings: What its author should know about it.
    """

    path: Path
    kind: str
    name: str
    version: str
    size_bytes: int
    sha256: str
    bootstrap_bytes: int
    own_bytes: int
    sbom: Path
    carried: tuple[tuple[str, str, int], ...]
    reused: bool
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Describes the result in one line."""
        what = "is up to date" if self.reused else "built"
        carried = f", carrying {', '.join(f'{name} {version}' for name, version, _ in self.carried)}" if self.carried else ""
        parts = f"{self.bootstrap_bytes / 1e6:.2f} MB of pex itself, {self.own_bytes / 1e6:.3f} MB of packages{carried}"
        return f"{self.path.name} {what}: {self.size_bytes / 1e6:.2f} MB, {parts}; sha256 {self.sha256}"


@dataclass(frozen=True)
class BuildRequest:
    """A pex that is to be built.

    Attributes:
        kind: "base" or "model".
        fingerprint: Hash of everything that it is built from.
        name: Name of the file in a folder, before the version.
        out: The file to write, or a folder, in which it is called `<name>-<version>.pex`.
        cache: The cache folder.
        build: Writes the pex to a path.
    """

    kind: str
    fingerprint: str
    name: str
    out: Path
    cache: Path
    build: Callable[[Path], None]


def build_or_reuse(request: BuildRequest, report: Report) -> BuiltPex:
    """Returns the requested pex: the one in its place if it is up to date, or else the one in the cache, or else a new one.

    Raises:
        BuildFailed: It cannot be built; a file that was there before has not changed.
    """
    in_place = _stamp(request.out)
    if in_place is not None and (in_place.kind, in_place.fingerprint) == (request.kind, request.fingerprint):
        return _describe(request.out, request, reused=True)
    cached = make_cache_folder(request.cache, "builds", request.kind) / f"{request.fingerprint}.pex"
    with lock_folder(cached, report):
        stamp = _stamp(cached)
        reused = stamp is not None
        if stamp is None:
            with temporary_folder(cached.parent) as folder:
                built = folder / cached.name
                request.build(built)
                stamp = read_stamp(built)
                built.replace(cached)
        assert stamp is not None, "each build writes a stamp"
        os.utime(cached)
        place = request.out / f"{request.name or stamp.name}-{stamp.version}.pex" if request.out.is_dir() else request.out
        if not place.is_file() or file_sha256(place, request.cache) != file_sha256(cached, request.cache):
            _copy_to_place(cached, place)
    prune_to_newest(cached.parent, "*.pex", _KEPT_BUILDS[request.kind])
    return _describe(place, request, reused=reused)


def _stamp(path: Path) -> Stamp | None:
    """Returns the stamp of a file that is complete according to its directory; None for any other, and if there is none."""
    try:
        return read_stamp(path)
    except PexRefused:
        return None


def _copy_to_place(cached: Path, out: Path) -> None:
    """Copies a pex from the cache. A link would not do, since people edit files in place."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with replace_atomically(out) as copy:
        shutil.copy(cached, copy)


def _describe(path: Path, request: BuildRequest, *, reused: bool) -> BuiltPex:
    found = read_pex(path, checksums=False)
    sha256 = file_sha256(path, request.cache)
    own_bytes = sum(distribution.size_bytes for distribution in found.distributions.values())
    return BuiltPex(
        path=path,
        kind=request.kind,
        name=found.name,
        version=found.version,
        size_bytes=found.size_bytes,
        sha256=sha256,
        sbom=_sbom(found, sha256),
        bootstrap_bytes=found.size_bytes - own_bytes,
        own_bytes=own_bytes,
        carried=_carried(found),
        reused=reused,
    )


def _sbom(found: PexFile, sha256: str) -> Path:
    """Returns the path of the SBOM beside the pex, and writes it unless the existing one belongs to exactly this file."""
    target = found.path.with_name(f"{found.path.name}.cdx.json")
    if not (target.is_file() and sha256 in target.read_text()):
        from runtime.build import sbom  # noqa: PLC0415 - takes 2 s for a base, which most starts do not need

        sbom.write_sbom(found, sha256, target)
    return target


def _carried(found: PexFile) -> tuple[tuple[str, str, int], ...]:
    return () if found.kind == "base" else sizes_of(each for each in found.distributions.values() if each.name != found.name)


def sizes_of(distributions: Iterable[Distribution]) -> tuple[tuple[str, str, int], ...]:
    """Returns name, version and size in bytes of each, the largest first."""
    by_size = sorted(distributions, key=lambda each: (-each.size_bytes, each.name))
    return tuple((each.name, str(each.version), each.size_bytes) for each in by_size)


def run_pex(roots: Iterable[str], wheels: Sequence[Path], stamp: Stamp, out: Path, options: Sequence[str | Path]) -> None:
    """Makes a pex from local wheels; nothing is resolved, and no index is used.

    Args:
        roots: `name==version` of each distribution that must be in it. pex silently leaves out distributions that no root requires.
        wheels: Files of the wheels.
        stamp: Written into its build properties.
        out: The file to write.
        options: Further options of pex.

    Raises:
        BuildFailed: pex failed, or packed something else.
    """
    minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    # A separate root: in the user's root, pex would keep each wheel of a base unpacked, 900 MB in all.
    with tempfile.TemporaryDirectory(prefix="pexdock-build-") as root, tempfile.TemporaryDirectory(prefix="pexdock-build-") as empty:
        command: list[str | Path] = [*tool.pex(), *roots, "--pex-root", root, "-o", out.resolve(), "--venv"]
        for wheel in wheels:
            command += ["--pre-resolved-dists", wheel.resolve()]
        command += ["--python", sys.executable, "--interpreter-constraint", f"CPython=={minor}.*"]
        # The file moves between machines, so its first line names no path.
        command += ["--python-shebang", f"/usr/bin/env python{minor}"]
        command += ["--build-property", f"{STAMP_PROPERTY}={msgspec.json.encode(stamp).decode()}", *options]
        # In an empty folder: pex takes `name==version` for a project of this machine if the current folder has a folder of that name.
        tool.run_tool(command, f"making {out.name}", cwd=Path(empty))
    refuse_other_content(out, roots, wheels)


def refuse_other_content(packed: Path, roots: Iterable[str], wheels: Iterable[Path]) -> None:
    """Checks that a pex contains its roots, and nothing but files of these wheels.

    What a wheel installs outside of its packages (`.data/`) is not compared, because pex changes it; nor is RECORD, which lists it.

    Raises:
        BuildFailed: A root is missing, or a distribution differs from its wheel.
    """
    found: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
    for name, content in _contents(packed).items():
        folder, _, inner = name.removeprefix(".deps/").partition("/")
        if name.startswith(".deps/") and inner:
            found[folder][inner] = content
    given = {wheel.name: wheel for wheel in wheels}
    other = set(found) - set(given)
    for name in set(found) & set(given):
        # A wheel's own files may be joined by those that pex adds.
        own = {inner: content for inner, content in _contents(given[name]).items() if not _PEX_CHANGES.search(inner)}
        if own.items() - found[name].items():
            other.add(name)
    names = {str(parse_wheel_filename(name)[0]) for name in found}
    missing = [root for root in roots if root.partition("==")[0] not in names]
    if other or missing:
        raise BuildFailed(
            f"pex packed something else than the wheels that it was given: missing {', '.join(missing) or 'nothing'}, "
            f"different {', '.join(sorted(other)) or 'nothing'}; report this as an error of Pexdock"
        )


def _contents(archive: Path) -> dict[str, tuple[int, int]]:
    """Returns the size and the CRC of each file in a zip, as its directory has them."""
    with zips.open_archive(archive) as opened:
        return {member.filename: (member.file_size, member.CRC) for member in opened.infolist() if not member.is_dir()}
