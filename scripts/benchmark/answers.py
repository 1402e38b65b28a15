"""Verifies the answers of a server, since a fast wrong answer is worthless."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import repeat
from typing import Any

from linear.fitted import as_array, fit

from benchmark.forms import Form, Row, rows
from benchmark.load import Work, form_of
from benchmark.processes import ServerFailed, request
from benchmark.servers import Running

AT_ONCE = 64
"""Concurrent requests with different rows, which detect answers to the wrong request of a batch."""


@cache
def _model() -> Any:
    return fit()


def check(running: Running, works: Sequence[Work]) -> None:
    """Sends each kind of work once, and then many different rows concurrently.

    Raises:
        ServerFailed: An answer differs from the prediction of the model in this process.
    """
    if not running.server.answers:
        return
    for work in works:
        _check_one(running.url, form_of(running, work), rows(work.rows, seed=1))
    with ThreadPoolExecutor(AT_ONCE) as threads:
        different = [rows(1, seed) for seed in range(4 * AT_ONCE)]
        list(threads.map(_check_one, repeat(running.url), repeat(running.server.form), different))


def _check_one(url: str, form: Form, asked: list[Row]) -> None:
    status, body = request(url, form.body(asked), form.content_type)
    expected = [float(value) for value in _model().predict(as_array(asked))]
    try:
        found = form.answer(body)
        right = len(found) == len(expected) and all(math.isclose(a, b, rel_tol=1e-9) for a, b in zip(found, expected, strict=True))
    except (ValueError, KeyError, TypeError):
        right = False
    if status != 200 or not right:
        raise ServerFailed(f"wrong answer for {len(asked)} rows: {status} {body[:300]!r}, expected {expected[:3]}")
