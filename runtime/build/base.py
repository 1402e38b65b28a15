"""`pexdock build base`: builds base.pex from a checkout and its lock."""

from __future__ import annotations

import tempfile
from pathlib import Path

from base.ipc.control import WIRE_VERSION
from runtime.build.download import fetch_wheels
from runtime.build.fingerprint import base_fingerprint
from runtime.build.locks.poetry import read_poetry
from runtime.build.pack import BuildRequest, BuiltPex, build_or_reuse, run_pex
from runtime.build.tool import BuildFailed, Steps
from runtime.build.wheel import build_wheel, read_pyproject
from runtime.pex.file import SDK, Stamp
from runtime.pex.locks import Report


def build_base(project: Path, out: Path | None = None, *, cache: Path, report: Report) -> BuiltPex:
    """Builds base.pex unless it is up to date.

    Args:
        project: The checkout of Pexdock.
        out: The file to write, or a folder, in which it is called `base-<version>.pex`; the checkout's dist/ by default.
        cache: The cache folder.
        report: Called with lines of progress.

    Raises:
        BuildFailed: It cannot be built; a file that was there before has not changed.
    """
    about = read_pyproject(project).get("project", {})
    if about.get("name") != SDK:
        raise BuildFailed(f"{project} is not a checkout of {SDK}, so no base can be built from it")
    version = str(about["version"])
    fingerprint = base_fingerprint(project)
    stamp = Stamp(kind="base", name=SDK, version=version, wire=WIRE_VERSION, fingerprint=fingerprint)
    out = out or project / "dist"
    place = out / f"base-{version}.pex" if out.is_dir() else out
    request = BuildRequest("base", fingerprint, "base", place, cache, lambda out: _build(project, stamp, out, cache, report))
    return build_or_reuse(request, report)


def _build(project: Path, stamp: Stamp, out: Path, cache: Path, report: Report) -> None:
    report(f"building base {stamp.version}")
    steps = Steps(report, 4)
    with steps.step("reading the lock"):
        pins = list(read_poetry(project / "poetry.lock", all_groups=False))
    with tempfile.TemporaryDirectory(prefix="pexdock-build-") as folder:
        with steps.step(f"downloading {len(pins)} packages") as report_progress:
            wheels = fetch_wheels(pins, cache, Path(folder), report_progress)
        with steps.step("building the wheel of pexdock"):
            own = build_wheel(project, Path(folder, "own"))
        with steps.step(f"packing and compressing {len(wheels) + 1} packages, which takes about half a minute"):
            run_pex([f"{SDK}=={stamp.version}"], [own, *wheels], stamp, out, ["-c", "pexdock"])
