"""Responses to errors, and the lines that the front door logs about them."""

from __future__ import annotations

import logging

import pytest

from base import errors
from runtime.front.requests.problems import problem_response
from runtime.http.problems import STATUSES

REASON = "the reason"
LOGGED = {errors.Unavailable, errors.Full, errors.DeadlineExceeded, errors.HandlerFailed, errors.BadResult, errors.LoadFailed}


@pytest.mark.parametrize("kind", [*STATUSES, errors.Declaration, errors.PeerError, errors.PeerGone], ids=lambda kind: kind.code)
def test_each_server_error_is_logged_once_with_its_id(caplog: pytest.LogCaptureFixture, kind: type[errors.PexdockError]) -> None:
    """An error of the client is not, since nobody who reads the log can do anything about it."""
    response = problem_response(kind(REASON), f"id-of-{kind.code}")
    lines = [record.message for record in caplog.records if f"id-of-{kind.code}" in record.message]
    assert len(lines) == (response.status >= 500)
    assert all(REASON in line for line in lines)
    assert (kind in LOGGED) <= (response.status >= 500)


def test_the_log_of_an_overload_is_bounded(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next line after the flood tells how many were left out."""
    now = [1e9]
    monkeypatch.setattr("runtime.front.requests.problems.time.monotonic", lambda: now[0])
    for number in range(1000):
        problem_response(errors.Full(REASON), f"flood-{number}")
    assert len(caplog.records) == 100
    now[0] += 1
    problem_response(errors.Full(REASON), "after")
    assert caplog.records[-1].message.startswith(f"request after: 503 full: {REASON}")
    assert caplog.records[-1].message.endswith("(no lines about 900 more failed requests before)")
    assert caplog.records[-1].levelno == logging.WARNING
