"""What a worker says about its release, compared with the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from base.ipc.release_spec import EndpointSpec, ReleaseSpec
from runtime.pex.file import read_pex
from runtime.supervisor.releases.worker_check import FORMS_MAX, spec_mismatch
from tinypex import write_tiny


def described(model: str, paths: list[str]) -> ReleaseSpec:
    return ReleaseSpec(model, "0.1.0", [EndpointSpec(path, path, [], None, None, 1, 1) for path in paths])


def arrangements(count: int) -> list[str]:
    """Returns paths of 8 segments with parameters in as many different places."""
    return ["/" + "/".join(f"{{p{place}}}" if number >> place & 1 else f"s{place}" for place in range(8)) for number in range(count)]


@pytest.mark.parametrize(
    ("model", "paths", "reason"),
    [
        ("tiny", ["/tiny"], ""),
        ("Tiny", [f"/{number}/{{x}}" for number in range(1000)], ""),
        ("other", ["/tiny"], "its worker reports other 0.1.0, but its file contains tiny 0.1.0"),
        ("tiny", [], "its worker serves 0 endpoints, but its file declares 1"),
        ("tiny", ["/tiny", "/jobs/{x}"], "path /jobs/{x} is reserved for the front door: begin the path with another segment"),
        ("tiny", arrangements(FORMS_MAX), ""),
        (
            "tiny",
            arrangements(FORMS_MAX + 1),
            "its paths have parameters in 65 different arrangements, limit 64: put the parameters in the same places",
        ),
    ],
)
def test_a_description_matches_the_file_or_the_reason_says_why_not(tmp_path: Path, model: str, paths: list[str], reason: str) -> None:
    """Many paths are allowed, but not in so many arrangements that comparing them with those of other models takes long."""
    assert spec_mismatch(described(model, paths), read_pex(write_tiny(tmp_path / "tiny.pex", "tiny"))) == reason
