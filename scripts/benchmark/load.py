"""One measurement: a closed loop of wrk or an open loop of openloop.c, and the CPU time of the server meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.parse
from pathlib import Path
from typing import NamedTuple

from benchmark import forms
from benchmark.pexdock import ROOT
from benchmark.processes import ServerFailed, cpu_s, descendants, machine_s, run_apart
from benchmark.servers import Running

WRK_SCRIPT = """
local file = io.open("body", "rb")
wrk.method, wrk.body = "POST", file:read("*a")
wrk.headers["Content-Type"] = "%s"
done = function(summary, latency)
    local e = summary.errors
    io.write(string.format('\\n{"requests": %%d, "seconds": %%f, ', summary.requests, summary.duration / 1e6))
    io.write(string.format('"failed": %%d, ', e.connect + e.read + e.write + e.status + e.timeout))
    io.write(string.format('"p50_ms": %%f, "p99_ms": %%f, ', latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
    io.write(string.format('"p999_ms": %%f}\\n', latency:percentile(99.9) / 1e3))
end
"""

SOURCE = Path(__file__).resolve().parent / "openloop.c"
DISTURBED = 0.1
"""Cores that other processes may use before a measurement is repeated."""

GENERATOR = ROOT / ".venv/peers/openloop"


def compile_generator() -> str | None:
    """Compiles the open-loop generator if it is missing or outdated. Returns the reason if it cannot be compiled."""
    if GENERATOR.exists() and GENERATOR.stat().st_mtime > SOURCE.stat().st_mtime:
        return None
    GENERATOR.parent.mkdir(parents=True, exist_ok=True)
    if shutil.which("cc") is None:
        return "there is no C compiler `cc`"
    done = subprocess.run(["cc", "-O2", "-o", GENERATOR, SOURCE, "-lm"], check=False, capture_output=True, text=True)
    return done.stderr if done.returncode else None


class Circumstances(NamedTuple):
    """The parameters of all measurements.

    Attributes:
        base: Folder with the pexes, which is read only.
        seconds: Duration of each measurement.
        tries: Attempts at a measurement that other load disturbs; the least disturbed one counts.
    """

    base: Path
    rounds: int
    seconds: float
    tries: int


class Work(NamedTuple):
    """A load.

    Attributes:
        rows: Rows of each request.
        rate: Requests per second of an open loop, as a Poisson process; None for a closed loop, whose connections send without a pause.
        arrow: Whether to send Arrow streams, which only Pexdock reads.
    """

    name: str
    rows: int
    connections: int
    rate: int | None = None
    arrow: bool = False


class Measured(NamedTuple):
    """The result of a measurement.

    Attributes:
        failed: Requests without an answer of status 200.
        cpu_us: CPU time of all processes of the server per request.
        others: Cores that other processes of the machine used meanwhile.
        late_us: Open loops only: p99 of the delay between the due time of a request and its sending.
    """

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    failed: int
    cpu_us: float
    others: float
    late_us: float = 0


def form_of(running: Running, work: Work) -> forms.Form:
    """Returns the format of this work for a server."""
    return forms.STREAM if work.arrow else running.server.form


def measure(running: Running, work: Work, folder: Path, given: Circumstances) -> Measured:
    """Runs a load against a server, with files in `folder`.

    Raises:
        ServerFailed: The load generator failed.
    """
    tries: list[Measured] = []
    while len(tries) < given.tries and all(found.others > DISTURBED for found in tries):
        tries.append(_measure(running, work, folder, given.seconds))
    return min(tries, key=lambda found: found.others)


def _measure(running: Running, work: Work, folder: Path, seconds: float) -> Measured:
    command = (_closed if work.rate is None else _open)(running, work, folder, seconds)
    server, all_of_us, everything = cpu_s(descendants(os.getpid())), _ours_s(), machine_s()
    printed, errors = run_apart(command, folder)
    server, all_of_us, everything = cpu_s(descendants(os.getpid())) - server, _ours_s() - all_of_us, machine_s() - everything
    try:
        found = json.loads(printed.splitlines()[-1])
    except (IndexError, ValueError) as exc:
        raise ServerFailed(f"{command[0]} failed: {printed[-300:]}{errors[-300:]}") from exc
    return Measured(
        found["requests"] / found["seconds"],
        found["p50_ms"],
        found["p99_ms"],
        found["p999_ms"],
        found["failed"],
        server / found["requests"] * 1e6 if found["requests"] else 0,
        max(0, everything - server - all_of_us) / found["seconds"],
        found.get("late_us", 0),
    )


def _ours_s() -> float:
    """Returns the CPU time of this process and of the load generators that have exited."""
    return sum(os.times()[:4])


def _closed(running: Running, work: Work, folder: Path, seconds: float) -> list[str]:
    """Returns the command of wrk, with one thread, since the server needs the other cores."""
    form = form_of(running, work)
    (folder / "body").write_bytes(form.body(forms.rows(work.rows, seed=1)))
    (folder / "post.lua").write_text(WRK_SCRIPT % form.content_type)
    return ["wrk", "-t1", f"-c{work.connections}", f"-d{seconds:.0f}s", "-s", "post.lua", running.url]


def _open(running: Running, work: Work, folder: Path, seconds: float) -> list[str]:
    form = form_of(running, work)
    body = form.body(forms.rows(work.rows, seed=1))
    url = urllib.parse.urlsplit(running.url)
    head = f"POST {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: {form.content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    (folder / "request").write_bytes(head.encode() + body)
    return [str(GENERATOR), str(url.port), str(work.rate), f"{seconds:.0f}", str(work.connections), "request"]
