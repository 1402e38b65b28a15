"""Start: the time of a warm start of a worker beyond the imports of its packages, and its effect on serving models."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import statistics
import subprocess
import threading
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmark import pexdock
from benchmark.load import Circumstances, Measured, Work, compile_generator, measure
from benchmark.parts.part import Part, at, folder, link_base, source
from benchmark.plots import number
from benchmark.tables import table
from runtime import settings
from runtime.pex.cache.store import PexCache

RATE = 500
SOON = {"restart_delay_min_s": 0.05, "restart_delay_max_s": 0.05}
THIRD_PARTY = """
import sys
from base.endpoint.discovery import discover
discover()
import base.worker
print(*[name for name in sys.modules if name.partition(".")[0] not in {*sys.stdlib_module_names, "base", "linear", "__main__"}])
"""
IMPORTS = """
import contextlib, importlib
for name in %r:
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
"""


class Cost(NamedTuple):
    """The time of a process until it is ready, or has finished its imports, and its CPU time."""

    wall_s: float
    cpu_s: float


def run(given: Circumstances) -> Part:
    """Measures both, with each variant in turn."""
    with folder() as dist:
        link_base(given, dist)
        built = pexdock.build_model(dist)
        lines, data = _starts(dist, built, given)
        beside, more = _beside(dist, given)
        return Part("Starts", [*lines, "", *beside], {"starts": data, "beside": more})


def _starts(dist: Path, model: Path, given: Circumstances) -> tuple[list[str], dict[str, list[Cost]]]:
    store = PexCache(settings.load().cache_path)
    try:
        command = store.worker_command(store.admit(model), store.unpack_base(next(dist.glob("base-*.pex"))))
        names = subprocess.run([command[0], "-I", "-c", THIRD_PARTY], check=True, capture_output=True, text=True).stdout.split()
        imports = [command[0], "-I", "-c", IMPORTS % names]
        subprocess.run(imports, check=True)  # reads all files into the page cache
        found: dict[str, list[Cost]] = {"the worker, until it is ready": [], "its packages, imported by Python alone": []}
        for _ in range(max(given.rounds, 5)):
            for costs, take in zip(found.values(), (lambda: _ready(command), lambda: _ended(imports)), strict=True):
                costs.append(take())
    finally:
        store.close()
    rows = [[name, *(number(statistics.median(each) * 1e3) for each in zip(*costs, strict=True))] for name, costs in found.items()]
    head = f"A warm start: the base and the release are unpacked. {len(names)} modules of packages.\n"
    return [head, *table(["", "ms", "CPU ms"], rows)], found


def _ready(command: Sequence[str]) -> Cost:
    """Measures a worker until it reports ready."""
    ours, theirs = socket.socketpair()
    with (
        folder() as scratch,
        ours,
        subprocess.Popen(
            [*command, "--socket", str(scratch / "w.sock"), "--control-fd", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env=pexdock.environment(),
        ) as process,
    ):
        began = time.monotonic()
        theirs.close()
        while not ours.recv(65536).endswith(b"\n"):
            pass
        wall = time.monotonic() - began
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        ours.shutdown(socket.SHUT_RDWR)
        return Cost(wall, cpu)


def _ended(command: Sequence[str]) -> Cost:
    began = time.monotonic()
    process = subprocess.Popen(command, env=pexdock.environment())
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    return Cost(time.monotonic() - began, usage.ru_utime + usage.ru_stime)


def _beside(dist: Path, given: Circumstances) -> tuple[list[str], dict[str, list[float]]]:
    if reason := compile_generator():
        return [f"Not measured beside other starts: {reason}."], {}
    with folder() as projects:
        pexdock.build_model(dist, pexdock.write_project(projects, "first", source("first")))
    variants = {"no worker starts": (0, False), "a worker starts, as nice as others": (0, True), "a worker starts, nicer": (5, True)}
    found: dict[str, list[Measured]] = {name: [] for name in variants}
    for _ in range(given.rounds):
        for name, (nice, starting) in variants.items():
            found[name].append(_loaded(dist, given, nice, starting=starting))
    rows = [
        [name, *(number(statistics.median(getattr(one, key) for one in each)) for key in ("p50_ms", "p99_ms", "p999_ms"))]
        for name, each in found.items()
    ]
    head = f"A model under {RATE} requests/s of one row each, while another model is dropped again and again.\n"
    return [head, *table(["", "p50 ms", "p99 ms", "p99.9 ms"], rows)], {name: [one.p99_ms for one in each] for name, each in found.items()}


def _loaded(dist: Path, given: Circumstances, nice: int, *, starting: bool) -> Measured:
    with folder() as scratch, folder() as load, ExitStack() as stack:
        it = stack.enter_context(pexdock.serving(scratch, dist, SOON | {"start_nice": nice}))
        if starting:
            stack.enter_context(_dropping_again(dist, scratch / "run/state.json"))
        return measure(at(f"{it.url}/first"), Work("", 1, 16, RATE), load, given)


@contextmanager
def _dropping_again(dist: Path, state: Path) -> Iterator[None]:
    """Drops new content of the model `linear` whenever the last one is ready."""
    over = threading.Event()
    content = (dist / "linear.pex").read_bytes()

    def drop() -> None:
        while True:
            aside = dist / ".linear"
            aside.write_bytes(content)
            with zipfile.ZipFile(aside, "a") as archive:
                archive.writestr(f"drop-{time.monotonic_ns()}", "")
            digest = hashlib.sha256(aside.read_bytes()).hexdigest()
            aside.rename(dist / "linear.pex")
            while not _is_ready(digest, json.loads(state.read_text())["releases"]):
                if over.wait(0.05):
                    return

    thread = threading.Thread(target=drop)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _is_ready(digest: str, releases: Sequence[dict[str, str]]) -> bool:
    return any(each["sha256"] == digest and each["state"] == "ready" for each in releases)
