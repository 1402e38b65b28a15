"""One measurement: a closed loop by wrk or an open loop by openloop.c, and the CPU that the server used meanwhile."""

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
"""Cores that others may use before a measurement is made again."""

GENERATOR = ROOT / ".venv/peers/openloop"


def compile_generator() -> str | None:
    """Makes the open-loop generator, if it is not there or older than its source. Returns why it cannot be made."""
    if GENERATOR.exists() and GENERATOR.stat().st_mtime > SOURCE.stat().st_mtime:
        return None
    GENERATOR.parent.mkdir(parents=True, exist_ok=True)
    if shutil.which("cc") is None:
        return "there is no C compiler `cc`"
    done = subprocess.run(["cc", "-O2", "-o", GENERATOR, SOURCE, "-lm"], check=False, capture_output=True, text=True)
    return done.stderr if done.returncode else None


class Circumstances(NamedTuple):
    """What holds for all that is measured.

    Attributes:
        base: a folder with the pexes; not to be written to.
        seconds: of each measurement.
        tries: of a measurement that something else on the machine disturbs; the least disturbed one counts.
    """

    base: Path
    rounds: int
    seconds: float
    tries: int


class Work(NamedTuple):
    """What is asked of a server.

    Attributes:
        rows: of each request.
        rate: requests a second in an open loop, as a Poisson process; None for a closed loop, in which each connection asks again at once.
        arrow: as an Arrow stream; only Pexdock reads one.
    """

    name: str
    rows: int
    connections: int
    rate: int | None = None
    arrow: bool = False


class Measured(NamedTuple):
    """What one measurement gave.

    Attributes:
        failed: requests without an answer 200.
        cpu_us: CPU time of all processes of the server, for each request.
        others: how many cores everything else on the machine used meanwhile.
        late_us: open loop only: within how many µs of its time each of 99 of 100 requests left.
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
    """In which form this server gets this work."""
    return forms.STREAM if work.arrow else running.server.form


def measure(running: Running, work: Work, folder: Path, given: Circumstances) -> Measured:
    """Runs one load against a server, with its files in `folder`.

    Raises:
        ServerFailed: the load generator could not do its work.
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
        raise ServerFailed(f"{command[0]} said: {printed[-300:]}{errors[-300:]}") from exc
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
    """CPU time of this process and of the load generators that have ended."""
    return sum(os.times()[:4])


def _closed(running: Running, work: Work, folder: Path, seconds: float) -> list[str]:
    """One thread, since the server needs the other cores."""
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
