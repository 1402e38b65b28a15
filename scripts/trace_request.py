"""Traces one prediction through a real front door: the modules that it enters on its way to a real worker, and on its way back.

A stay begins when a function of a module is called from another module. A call further down and the return from it are part of the stay.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import uvloop

import cost_model
from base.ipc.control import ControlStream, Drain, encode_message
from base.ipc.front_door_control import Configure, Listening, Route, RoutingTable
from base.ipc.release_spec import ReleaseSpec
from base.worker.worker import Worker
from runtime.front.process import FrontProcess

_ROOT = str(Path(__file__).resolve().parent.parent / "runtime") + os.sep
_WARM_UP_REQUESTS = 5


class Tracer:
    """Records the modules that the front door's thread enters, as (module, function).

    Attributes:
        stays: Recorded stays by direction: "in" until a message of the worker is read, "out" from the callback that reads it.
        enabled: Whether calls are recorded now.
    """

    def __init__(self) -> None:
        self.stays: dict[str, list[tuple[str, str]]] = {}
        self.enabled = False
        self._direction = "in"
        self._module = ""

    def start(self) -> None:
        """Begins a new recording."""
        self.stays, self._direction, self._module = {"in": [], "out": []}, "in", ""
        self.enabled = True

    def on_call(self, frame: Any, event: str, _: object) -> None:
        """Handles an event of `sys.setprofile`."""
        if not self.enabled or event != "call":
            return
        if self._direction == "in" and frame.f_code.co_filename.endswith("/base/ipc/channel.py") and "receive" in frame.f_code.co_name:
            self._direction = "out"
            self.stays["out"].append(self.stays["in"].pop())  # the callback that reads the reply
        module = _module(frame)
        if module is None:
            return
        caller = frame.f_back
        while caller is not None and _module(caller) is None:
            caller = caller.f_back
        # A callback of the event loop has no caller in the front door: it goes on where the last one ended.
        if module != (self._module if caller is None else _module(caller)):
            self.stays[self._direction].append((module, frame.f_code.co_qualname))
        self._module = module


def _module(frame: Any) -> str | None:
    """Returns the module of a frame below `runtime/`, such as `front.app.service`; None for all other code."""
    path = frame.f_code.co_filename
    return path[len(_ROOT) : -len(".py")].replace(os.sep, ".") if path.startswith(_ROOT) else None


def trace() -> dict[str, dict[str, list[tuple[str, str]]]]:
    """Returns the stays of a request whose head is new, and of one whose head was seen before, by direction.

    The request is a lone one of one row, on a connection that was used before.
    """
    tracer, found = Tracer(), dict[str, dict[str, list[tuple[str, str]]]]()
    listener = socket.create_server(("127.0.0.1", 0))
    ours, theirs = socket.socketpair()

    with tempfile.TemporaryDirectory(prefix="pexdock-trace-") as folder, _worker(Path(folder, "worker.sock")) as spec:
        route = Route(spec, [str(Path(folder, "worker.sock"))])

        def drive() -> None:
            try:
                found.update(_drive(ours, listener.getsockname()[1], route, tracer))
            finally:
                ours.sendall(encode_message(Drain()))

        client = threading.Thread(target=drive)
        client.start()
        sys.setprofile(tracer.on_call)
        try:
            uvloop.run(FrontProcess(theirs, [listener], 1).run())
        finally:
            sys.setprofile(None)
            client.join()
    ours.close()
    return found


def _drive(control: socket.socket, port: int, route: Route, tracer: Tracer) -> dict[str, dict[str, list[tuple[str, str]]]]:
    """Acts as the supervisor and as a client. Runs in a thread of its own."""
    control.sendall(encode_message(Configure()) + encode_message(RoutingTable(1, [route], startup_complete=True)))
    messages = ControlStream()
    while not any(isinstance(message, Listening) for message in messages.feed_bytes(control.recv(65536))):
        pass
    found = {}
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        for _ in range(_WARM_UP_REQUESTS):
            _predict(connection, "warm-up")
        for name in ("new head", "known head"):
            tracer.start()
            _predict(connection, "traced")
            tracer.enabled = False
            found[name] = tracer.stays
    return found


def _predict(connection: socket.socket, agent: str) -> None:
    """Sends a request in one piece, since only then its head is remembered, and reads the response."""
    body = json.dumps([cost_model.ROWS["numbers"]])
    head = (
        f"POST /numbers HTTP/1.1\r\nHost: x\r\nUser-Agent: {agent}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    connection.sendall(f"{head}{body}".encode())
    response = HTTPResponse(connection)
    response.begin()
    if response.status != 200:
        raise SystemExit(f"{response.status} {response.read().decode()}")
    response.read()


@contextmanager
def _worker(path: Path) -> Iterator[ReleaseSpec]:
    """Starts a worker in a process of its own; yields the description of its release."""
    command = [sys.executable, "-P", __file__, "--worker", str(path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield msgspec.json.decode(process.stdout.readline(), type=ReleaseSpec)
        finally:
            process.terminate()


def _run_worker(path: Path) -> None:
    worker = Worker("trace", "0", cost_model.ENDPOINTS, path)
    print(msgspec.json.encode(worker.listen()).decode(), flush=True)
    worker.run()


def _joined(stays: Iterable[tuple[str, str]]) -> str:
    return " → ".join(f"{module.rpartition('.')[2]} ({function})" for module, function in stays)


def as_text(found: dict[str, dict[str, list[tuple[str, str]]]]) -> str:
    """Returns the trace as Markdown: a line for each package that is entered, with the modules in it."""
    lines = []
    for name, directions in found.items():
        for direction, stays in directions.items():
            lines += [f"A request with a {name}, {direction}: {len(stays)} stays", ""]
            for package, inner in groupby(stays, lambda stay: stay[0].rpartition(".")[0]):
                lines.append(f"    {package:<22} {_joined(inner)}")
            lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        _run_worker(Path(sys.argv[2]))
    elif sys.argv[1:] == ["--json"]:
        print(json.dumps(trace()))
    else:
        print(as_text(trace()))
