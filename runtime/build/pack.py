"""From wheels to a pex in its place: built once for each fingerprint, kept in the cache, and moved to where it is wanted by a rename."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from base.errors import PexRefused
from runtime.atomic_file import replace_atomically
from runtime.build import tool
from runtime.build.build_cache import temporary_folder, prune_to_newest
from runtime.pex.file import STAMP_PROPERTY, PexFile, Stamp, read_pex, read_stamp
from runtime.pex.locks import lock_folder
from runtime.pex.unpack import file_sha256

_KEPT_BUILDS = {"base": 2, "model": 30}
"""A base takes some 200 MB, a model mostly little more than one."""


@dataclass(frozen=True)
class BuiltPex:
    """A pex in its place.

    `bootstrap_bytes` is pex's own part of the file, with the zip's directory, `own_bytes` that of the distributions; `sbom` lists these; `carried` are name and
    version of what a model brings besides itself; `reused` says that nothing had to be built.
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
    carried: tuple[tuple[str, str], ...]
    reused: bool

    def __str__(self) -> str:
        """One line for people."""
        what = "is up to date" if self.reused else "is built"
        carried = f", carrying {', '.join(' '.join(each) for each in self.carried)}" if self.carried else ""
        parts = f"{self.bootstrap_bytes / 1e6:.2f} of it pex's own, {self.own_bytes / 1e6:.3f} packages{carried}"
        return f"{self.path.name} {what}: {self.size_bytes / 1e6:.2f} MB, {parts}; sha256 {self.sha256}"


@dataclass(frozen=True)
class BuildRequest:
    """What is to be built, and where it goes. `make` writes the pex to the path that it is given."""

    kind: str
    fingerprint: str
    out: Path
    cache: Path
    make: Callable[[Path], None]


def output_path(out: Path, name: str) -> Path:
    """The file that is meant by a file or a folder."""
    return out / name if out.is_dir() else out


def build_or_reuse(order: BuildRequest, report: tool.Report) -> BuiltPex:
    """The pex that was ordered: the one in its place if it is that, or else the one in the cache, or else a new one.

    Raises:
        BuildFailed: it cannot be built; what was in its place still is.
    """
    if _is_that(order.out, order):
        return _describe(order.out, order, reused=True)
    kept = order.cache / "builds" / order.kind / f"{order.fingerprint}.pex"
    kept.parent.mkdir(parents=True, exist_ok=True)
    with lock_folder(kept, report):
        reused = _is_that(kept, order)
        if not reused:
            with temporary_folder(kept.parent) as place:
                made = place / kept.name
                order.make(made)
                made.replace(kept)
        os.utime(kept)
        _deliver(kept, order.out)
    prune_to_newest(kept.parent, "*.pex", _KEPT_BUILDS[order.kind])
    return _describe(order.out, order, reused=reused)


def _is_that(path: Path, order: BuildRequest) -> bool:
    """Whether the file is there, is whole as far as its directory tells, and says that it was made from these inputs."""
    try:
        stamp = read_stamp(path)
    except PexRefused:
        return False
    return stamp is not None and (stamp.kind, stamp.fingerprint) == (order.kind, order.fingerprint)


def _deliver(kept: Path, out: Path) -> None:
    """Copy aside, then rename, so that whoever watches the folder never sees half a file. No link: people edit files in place."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with replace_atomically(out) as copy:
        shutil.copy(kept, copy)


def _describe(path: Path, order: BuildRequest, *, reused: bool) -> BuiltPex:
    found = read_pex(path, checksums=False)
    sha256 = file_sha256(path, order.cache)
    own_bytes = sum(distribution.size_bytes for distribution in found.distributions.values())
    return BuiltPex(
        path=path,
        kind=order.kind,
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
    """The list of what is in it, beside it; made unless the one that is there is of this very file."""
    target = found.path.with_name(f"{found.path.name}.cdx.json")
    if not (target.is_file() and sha256 in target.read_text()):
        from runtime.build import sbom  # noqa: PLC0415 - 2 s for a base, which most starts need not spend

        sbom.write_sbom(found, sha256, target)
    return target


def _carried(found: PexFile) -> tuple[tuple[str, str], ...]:
    if found.kind == "base":
        return ()
    return tuple(sorted((name, version) for name, version in found.versions.items() if name != found.name))


def run_pex(roots: Iterable[str], wheels: Sequence[Path], stamp: Stamp, out: Path, options: Sequence[str | Path]) -> None:
    """Make a pex of wheels at hand; nothing is resolved and no index is asked.

    Args:
        roots: `name==version` of what must be in it. pex leaves out silently what none of them leads to.
        wheels: where it takes them from.
        stamp: goes into its build properties.
        out: the file.
        options: more options of pex.

    Raises:
        BuildFailed: pex failed.
    """
    minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    # A root of its own: in the user's, pex would keep each wheel of a base unpacked, 900 MB of them.
    with tempfile.TemporaryDirectory(prefix="pexdock-build-") as root:
        command: list[str | Path] = [*tool.pex(), *roots, "--pex-root", Path(root), "-o", out, "--venv"]
        for wheel in wheels:
            command += ["--pre-resolved-dists", wheel]
        command += ["--python", sys.executable, "--interpreter-constraint", f"CPython=={minor}.*"]
        # The file moves between machines, so its first line names no path.
        command += ["--python-shebang", f"/usr/bin/env python{minor}"]
        command += ["--build-property", f"{STAMP_PROPERTY}={msgspec.json.encode(stamp).decode()}", *options]
        tool.run_tool(command, f"making {out.name}")
