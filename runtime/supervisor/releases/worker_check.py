"""Compares a worker's report about its release with the metadata of the pex. Pure."""

from __future__ import annotations

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from base.endpoint.path import RESERVED, path_pattern
from base.ipc.control import Ready
from base.ipc.release_spec import ReleaseSpec
from runtime.pex.check import wire_mismatch
from runtime.pex.file import PexFile
from runtime.supervisor.rollout.path_claims import path_form

FORMS_MAX = 64
"""Number of arrangements of parameters in the paths of a release. Each costs time in every comparison with paths of other models."""


def worker_mismatch(ready: Ready, pex: PexFile) -> str:
    """Returns the reason to refuse the release of this worker; empty if it matches its file."""
    return wire_mismatch("its worker", ready.wire) or spec_mismatch(ready.release, pex)


def spec_mismatch(spec: ReleaseSpec, pex: PexFile) -> str:
    """Returns the reason to refuse a release by its description; empty if it matches its file."""
    if not _is_same_release(spec, pex):
        return f"its worker reports {spec.model} {spec.version}, but its file contains {pex.name} {pex.version}"
    if len(spec.endpoints) < len(pex.endpoints):
        return f"its worker serves {len(spec.endpoints)} endpoints, but its file declares {len(pex.endpoints)}"
    reserved = [endpoint.path for endpoint in spec.endpoints if path_pattern(endpoint.path)[0] in RESERVED]
    if reserved:
        return f"path {reserved[0]} is reserved for the front door: begin the path with another segment"
    forms = len({path_form(endpoint.path) for endpoint in spec.endpoints})
    if forms > FORMS_MAX:
        return f"its paths have parameters in {forms} different arrangements, limit {FORMS_MAX}: put the parameters in the same places"
    return ""


def _is_same_release(spec: ReleaseSpec, pex: PexFile) -> bool:
    try:
        return canonicalize_name(spec.model) == canonicalize_name(pex.name) and Version(spec.version) == Version(pex.version)
    except InvalidVersion:
        return False
