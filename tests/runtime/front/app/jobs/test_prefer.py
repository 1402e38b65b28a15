"""The Prefer header."""

from __future__ import annotations

import pytest

from runtime.front.app.jobs.prefer import JobPreference, parse_prefer


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"", JobPreference()),
        (b"respond-async", JobPreference(True)),
        (b"Respond-Async , wait=10", JobPreference(True, 10)),
        (b'wait="20", return=minimal; foo="bar", respond-async; x', JobPreference(True, 20)),
        (b"respond-async; wait=5", JobPreference(True)),
        (b"wait=10", JobPreference(False, 10)),
        (b"wait=1, wait=99, respond-async", JobPreference(True, 1)),
        (b"respond-async, wait=-1", JobPreference(True)),
        (b"respond-async, wait=9999999", JobPreference(True)),
        (b"respond-async, wait=1.5", JobPreference(True)),
        (b"respond-asynchronously, xrespond-async", JobPreference()),
        (b"\xff\xfe,,,;;==", JobPreference()),
    ],
)
def test_a_preference_is_found_as_the_rfc_spells_it(value: bytes, found: JobPreference) -> None:
    """Whatever else the header holds is ignored."""
    assert parse_prefer(value) == found
