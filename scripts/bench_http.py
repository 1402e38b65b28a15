"""Measures Pexdock's HTTP from outside: the iris example as dist/ holds it, next to a bare ASGI app on the same uvicorn.

Both run during the whole measurement, and rounds alternate between them, so that whatever else the machine does hits both.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any, NamedTuple

import bench_parts as parts

ROWS = [{"sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}]
REPLY = b'{"id":"00000000000000000000000000000000","predictions":[4.958217165475243]}'
"""As long as Pexdock's own."""

WRK_SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '%s'
done = function(summary, latency)
    local e = summary.errors
    local failed = e.connect + e.read + e.write + e.status + e.timeout
    io.write(string.format('\\n{"requests": %%d, "seconds": %%f, "failed": %%d, ', summary.requests, summary.duration / 1e6, failed))
    io.write(string.format('"p50_ms": %%f, "p99_ms": %%f}\\n', latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
"""


class Round(NamedTuple):
    """One run of wrk."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float


async def bare(scope: MutableMapping[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    """The least that an ASGI app can do with a request: read it, and answer with a constant. Runs in its own uvicorn."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(REPLY)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": REPLY})


def main() -> int:
    """Prints the tables."""
    options = arguments()
    if shutil.which("wrk") is None:
        sys.exit("scripts/bench_http needs wrk, which is a package of Debian and Ubuntu: apt-get install wrk")
    with tempfile.TemporaryDirectory(prefix="pexdock-bench-") as name:
        folder = Path(name)
        path, expected = parts.prepare(folder, options.dist, ROWS)
        with parts.uvicorn(f"{Path(__file__).stem}:bare") as bare_url, parts.supervisor(folder) as (url, process):
            right_answers(url + path, expected)
            targets = {"bare uvicorn": bare_url + path, "Pexdock": url + path}
            print(rates(folder, targets, options))
            print(memory(process))
            print(parts.dropped(folder, url, options.dist))
    return 0


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dist", type=Path, default=Path("dist"), help="where base's, iris' and transactions' pexes are")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of one round")
    return parser.parse_args()


def right_answers(url: str, expected: list[float]) -> None:
    """A fast wrong answer is worth nothing.

    Raises:
        SystemExit: the answer is not what the model says when asked without Pexdock.
    """
    status, body = parts.request(url, json.dumps(ROWS).encode())
    if status != 200 or any(abs(a - b) > 1e-9 for a, b in zip(json.loads(body)["predictions"], expected, strict=True)):
        sys.exit(f"wrong answer: {status} {body.decode()}, expected {expected}")


def rates(folder: Path, targets: dict[str, str], options: argparse.Namespace) -> str:
    """Medians over the rounds, and the ratio of each to the first target's."""
    script = folder / "post.lua"
    script.write_text(WRK_SCRIPT % json.dumps(ROWS))
    lines = ["| connections | what | requests/s | p50 ms | p99 ms | ratio |", "|---|---|---|---|---|---|"]
    for connections in options.connections:
        rounds: dict[str, list[Round]] = {name: [] for name in targets}
        for number in range(options.rounds):
            for name, url in targets.items():
                rounds[name].append(wrk(script, url, connections, options.seconds))
                print(f"{connections} connections, round {number + 1}: {name} {rounds[name][-1].requests_per_s:.0f}/s", file=sys.stderr)
        medians = {name: Round(*map(statistics.median, zip(*found, strict=True))) for name, found in rounds.items()}
        first = next(iter(medians.values())).requests_per_s
        lines += [
            f"| {connections} | {name} | {m.requests_per_s:.0f} | {m.p50_ms:.2f} | {m.p99_ms:.2f} | {m.requests_per_s / first:.2f} |"
            for name, m in medians.items()
        ]
    return "\n".join(lines) + "\n"


def wrk(script: Path, url: str, connections: int, seconds: int) -> Round:
    """One round with one thread, since the server needs the other cores.

    Raises:
        SystemExit: a request failed or got another status than 200.
    """
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), url]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = json.loads(output.splitlines()[-1])
    if found["failed"] or not found["requests"]:
        sys.exit(f"requests failed:\n{output}")
    return Round(found["requests"] / found["seconds"], found["p50_ms"], found["p99_ms"])


def memory(process: subprocess.Popen[bytes]) -> str:
    """What each process of the supervisor holds, shared pages divided by who shares them."""
    sizes = [(parts.role(pid), parts.pss_bytes(pid)) for pid in parts.family(process.pid)]
    lines = ["| process | PSS MB |", "|---|---|", *(f"| {role} | {size / 1e6:.0f} |" for role, size in sizes)]
    return "\n".join([*lines, f"| together | {sum(size for _, size in sizes) / 1e6:.0f} |"]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
