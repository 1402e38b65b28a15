"""Checks each pex in dist/ against this interpreter, this machine and the bases beside it, and the state of its releases. Runs no pex."""

from __future__ import annotations

import os
import platform
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from base.errors import PexRefused
from base.ipc.control import WIRE_VERSION
from runtime.doctor.finding import Finding, ok, problem, warning
from runtime.pex.check import check_pex, choose_base
from runtime.pex.file import PexFile, read_pex
from runtime.pex.names import find_pexes
from runtime.settings import Settings
from runtime.supervisor.status.state import State

_BAD = ("refused", "failed")


def check_pexes(settings: Settings, state: State) -> Iterator[Finding]:
    """Yields a finding for the interpreter, for each file, and for each release and model that does not serve as it should."""
    yield ok("interpreter", f"{platform.python_implementation()} {platform.python_version()}, {' '.join(platform.libc_ver())}")
    try:
        paths = find_pexes(settings.dist_path)
    except OSError:  # which is a finding about the folder
        return
    read = [(path, _read(path)) for path in paths]
    bases = [pex for _, pex in read if isinstance(pex, PexFile) and pex.kind == "base"]
    if not bases:
        yield problem("base", f"there is no base in {settings.dist_path}", "build one with `pexdock build base`, or copy one there")
    for path, pex in read:
        yield _check_pex(path, pex, bases)
    yield from _check_state(state, {path.name for path, pex in read if not isinstance(pex, PexFile)})


def _read(path: Path) -> PexFile | Finding:
    try:
        return read_pex(path, checksums=False)
    except PexRefused as exc:
        readable = os.access(path, os.R_OK)
        advice = "rebuild it, or remove it" if readable else f"give user {os.geteuid()} read access to it"
        return problem(path.name, exc.detail.removeprefix(f"{path.name}: "), advice)


def _check_pex(path: Path, pex: PexFile | Finding, bases: Sequence[PexFile]) -> Finding:
    if not isinstance(pex, PexFile):
        return pex
    if pex.kind == "base":
        wire = pex.stamp.wire if pex.stamp else WIRE_VERSION
        if wire != WIRE_VERSION:
            age = "older" if wire < WIRE_VERSION else "newer"
            return problem(path.name, f"base {pex.version} has wire version {wire}, {age} than {WIRE_VERSION} here", "rebuild it")
        return ok(path.name, f"base {pex.version}, wire version {wire}")
    try:
        base = choose_base(pex, bases)
        warnings = check_pex(pex, base)
    except PexRefused as exc:
        return problem(path.name, exc.detail.removeprefix(f"{path.name}: "), "see `pexdock check`")
    if warnings:
        return warning(path.name, warnings[0].removeprefix(f"{path.name} "), "see `pexdock check`")
    return ok(path.name, f"{pex.name} {pex.version}, on base {base.version}")


def _check_state(state: State, unusable: Collection[str]) -> Iterator[Finding]:
    for release in state.releases:
        if release.state in _BAD and state.pid is not None and release.file not in unusable:
            yield problem(release.file, f"is {release.state}: {release.reason}", "see `pexdock models`; replace its file")
        elif release.restarts:
            yield warning(release.file, f"its workers were restarted {release.restarts} times", f"see `pexdock logs {release.name}`")
    for model in state.models:
        for failed in model.rolled_back:
            yield warning(model.name, f"{failed.version} was rolled back: {failed.reason}", "deploy a corrected release, or promote it")
