"""`pexdock build base`: base.pex out of a checkout and its lock."""

from __future__ import annotations

import tempfile
from pathlib import Path

from base.ipc.control import WIRE_VERSION
from runtime.build.fingerprint import base_fingerprint
from runtime.build.lock import download_wheels, export_pins
from runtime.build.pack import BuiltPex, BuildRequest, build_or_reuse, output_path, run_pex
from runtime.build.tool import BuildFailed, Report, Steps
from runtime.build.wheel import build_wheel, read_pyproject
from runtime.pex.file import SDK, Stamp


def build_base(project: Path, out: Path | None = None, *, cache: Path, report: Report) -> BuiltPex:
    """Build base.pex, unless it is there already.

    Args:
        project: the checkout of Pexdock.
        out: where it goes: a file, or a folder in which it is called `base-<version>.pex`; the checkout's dist/ by default.
        cache: the cache folder.
        report: takes lines of progress.

    Raises:
        BuildFailed: it cannot be built; what was in its place still is.
    """
    about = read_pyproject(project).get("project", {})
    if about.get("name") != SDK:
        raise BuildFailed(f"{project} is no checkout of {SDK}, so there is no base to build from it")
    version = str(about["version"])
    fingerprint = base_fingerprint(project)
    stamp = Stamp(kind="base", name=SDK, version=version, wire=WIRE_VERSION, fingerprint=fingerprint)
    place = output_path(out or project / "dist", f"base-{version}.pex")
    order = BuildRequest("base", fingerprint, place, cache, lambda made: _make(project, stamp, made, cache, report))
    return build_or_reuse(order, report)


def _make(project: Path, stamp: Stamp, made: Path, cache: Path, report: Report) -> None:
    report(f"building base {stamp.version}")
    steps = Steps(report, 4)
    with steps.step("reading the lock"):
        pins = export_pins(project)
    with steps.step(f"downloading {len(pins)} packages") as how_far:
        wheels = download_wheels(pins.values(), cache, how_far)
    with tempfile.TemporaryDirectory(prefix="pexdock-build-") as folder:
        with steps.step("building the wheel of pexdock"):
            own = build_wheel(project, Path(folder))
        with steps.step(f"packing and compressing {len(wheels) + 1} packages, which takes about half a minute"):
            run_pex([f"{SDK}=={stamp.version}"], [own, *wheels], stamp, made, ["-c", "pexdock"])
