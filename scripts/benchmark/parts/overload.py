"""Overload: the answers in time when more requests arrive than a model can serve, with a limited wait and with the defaults."""

from __future__ import annotations

import json
import statistics
import sys
import urllib.parse
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

from benchmark import forms, pexdock
from benchmark.load import GENERATOR, Circumstances, compile_generator
from benchmark.parts.part import Part, folder, link_base, rate, source
from benchmark.plots import number
from benchmark.processes import ServerFailed, run_apart
from benchmark.tables import table

BATCH, BATCH_S = 16, 0.02
TIMES = (0.5, 1, 2, 3)
CLOSED_CONNECTIONS = 64
"""Two full batches at the worker, and two that wait."""

OPEN_CONNECTIONS = 1500
"""More than can wait within either limit, so that no request waits for a connection."""

SECONDS_MIN = 8
"""Duration of an open loop: long enough that the time until the queue is full matters little."""

HEAD = ["bound", "asked", "goodput", "of the peak", "p50 ms", "p99 ms", "of the bound", "refused", "refused within ms", "late ms"]

NOTE = """\
A batch is {batch} rows and sleeps {ms:g} ms; a request is one row. The peak is that of a closed loop of {closed} connections in the same
round, and what is asked is so many times that, as a Poisson process on up to {open} connections. Goodput is answers 200 within twice the
bound on the wait, or within the time of the request, a second; p50 and p99 are those of all answers 200, from when their requests were
due. What is refused is a 503, {told:.0%} of them with `Retry-After`, and 99 of 100 came within the time given. `late` is what the
generator itself may have added, at its own p99. Medians of {rounds} rounds, in brackets the least and the most; both settings took turns.
The target at 3 times the peak: goodput of at least 90 % of it, and a p99 below twice the bound.
"""


class Bound(NamedTuple):
    """A limit of the wait.

    Attributes:
        good_s: Time within which an answer counts.
        settings: Settings of Pexdock besides the defaults.
        said: Headers of each request.
    """

    seconds: float
    good_s: float
    settings: Mapping[str, object]
    said: str = ""


BOUNDS = {
    "queue_max_wait_s = 0.25": Bound(0.25, 0.5, {"queue_max_wait_s": 0.25}),
    "defaults, requests of 1 s": Bound(1, 1, {}, "X-Request-Timeout-Ms: 1000\r\n"),
}


def run(given: Circumstances) -> Part:
    """Measures two Pexdocks at the same time, one for each limit, in turn."""
    if reason := compile_generator():
        raise ServerFailed(f"cannot run open loops: {reason}")
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in BOUNDS}
    with ExitStack() as stack:
        scratch, dist = (stack.enter_context(folder()) for _ in range(2))
        link_base(given, dist)
        pexdock.build_model(dist, pexdock.write_project(scratch / "projects", "slow", source("slow", batch=BATCH, sleep_s=BATCH_S)))
        takes = {}
        for i, (name, bound) in enumerate(BOUNDS.items()):
            (scratch / str(i)).mkdir()
            settings = {**bound.settings, "state_path": scratch / f"state{i}"}  # both have the same dist/, which determines the default
            url = stack.enter_context(pexdock.serving(scratch / str(i), dist, settings)).url + "/slow"
            takes[name] = partial(_round, url, bound, given)
        for each in range(given.rounds):
            for name, take in takes.items():
                found[name].append(take())
                print(f"round {each + 1}/{given.rounds}: {name}: {_said(found[name][-1])}", file=sys.stderr, flush=True)
    return Part("Overload", [*table(HEAD, _rows(found)), _note(found)], {"rounds": found})


def _round(url: str, bound: Bound, given: Circumstances) -> dict[str, Any]:
    """Measures the peak, and each multiple of it."""
    peak = rate(url, CLOSED_CONNECTIONS, given._replace(tries=1)).requests_per_s
    seconds = max(given.seconds, SECONDS_MIN)
    return {"peak": peak, "open": {str(times): _open(url, bound, times * peak, seconds) for times in TIMES}}


def _open(url: str, bound: Bound, per_s: float, seconds: float) -> dict[str, float]:
    with folder() as scratch:
        (scratch / "request").write_bytes(_request(url, bound))
        port = urllib.parse.urlsplit(url).port
        words = [port, f"{per_s:.0f}", f"{seconds:.0f}", OPEN_CONNECTIONS, "request", bound.good_s * 1e3]
        printed, errors = run_apart([str(GENERATOR), *map(str, words)], scratch)
    try:
        return json.loads(printed)  # type: ignore[no-any-return]
    except ValueError as exc:
        raise ServerFailed(f"the generator failed: {printed[-300:]}{errors[-300:]}") from exc


def _request(url: str, bound: Bound) -> bytes:
    body = forms.RECORDS.body(forms.rows(1, seed=1))
    parts = urllib.parse.urlsplit(url)
    head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: {forms.RECORDS.content_type}\r\n"
    return f"{head}{bound.said}Content-Length: {len(body)}\r\n\r\n".encode() + body


def goodput(one: Mapping[str, float]) -> float:
    """Returns the answers of status 200 per second that count."""
    return one["good"] / one["seconds"]


def _said(one: Mapping[str, Any]) -> str:
    shares = (f"x{times} {goodput(each) / one['peak']:.0%}" for times, each in one["open"].items())
    return f"peak {one['peak']:.0f}/s, {', '.join(shares)}"


def _rows(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[list[str]]:
    rows = []
    for name, each in found.items():
        peak = statistics.median(one["peak"] for one in each)
        rows.append([name, "closed loop", number(peak), "", "", "", "", "", "", ""])
        rows += [[name, f"{times:g} times that", *_cells(each, str(times), BOUNDS[name].seconds)] for times in TIMES]
    return rows


def _cells(rounds: Sequence[Mapping[str, Any]], times: str, bound_s: float) -> list[str]:
    found = [one["open"][times] for one in rounds]
    shares = [goodput(each) / one["peak"] for one, each in zip(rounds, found, strict=True)]
    median = {name: statistics.median(each[name] for each in found) for name in found[0]}
    return [
        number(statistics.median(map(goodput, found))),
        f"{statistics.median(shares):.0%} ({min(shares):.0%} to {max(shares):.0%})",
        number(median["accepted_p50_ms"]),
        number(median["accepted_p99_ms"]),
        f"×{median['accepted_p99_ms'] / 1e3 / bound_s:.2f}",
        f"{median['refused'] / median['requests']:.0%}" if median["requests"] else "",
        number(median["refused_p99_ms"]) if median["refused"] else "",
        number(median["late_us"] / 1e3),
    ]


def _note(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    loops = [each for rounds in found.values() for one in rounds for each in one["open"].values()]
    refused = sum(each["refused"] for each in loops)
    told = sum(each["told"] for each in loops) / refused if refused else 1
    rounds = len(next(iter(found.values())))
    return NOTE.format(batch=BATCH, ms=BATCH_S * 1e3, closed=CLOSED_CONNECTIONS, open=OPEN_CONNECTIONS, told=told, rounds=rounds)
