"""Compares a worker's report about its release with the metadata of the pex. Pure."""

from __future__ import annotations

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from base.ipc.control import Ready
from base.ipc.release_spec import ReleaseSpec
from runtime.pex.check import wire_mismatch
from runtime.pex.file import PexFile


def worker_mismatch(ready: Ready, pex: PexFile) -> str:
    """Returns the reason to refuse the release of this worker; empty if it matches its file."""
    spec = ready.release
    if mismatch := wire_mismatch("its worker", ready.wire):
        return mismatch
    if not _is_same_release(spec, pex):
        return f"its worker reports {spec.model} {spec.version}, but its file contains {pex.name} {pex.version}"
    if len(spec.endpoints) < len(pex.endpoints):
        return f"its worker serves {len(spec.endpoints)} endpoints, but its file declares {len(pex.endpoints)}"
    return ""


def _is_same_release(spec: ReleaseSpec, pex: PexFile) -> bool:
    try:
        return canonicalize_name(spec.model) == canonicalize_name(pex.name) and Version(spec.version) == Version(pex.version)
    except InvalidVersion:
        return False
