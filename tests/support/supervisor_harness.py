"""A real supervisor with a dist/ of its own, and what tests ask of it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import httpx

from tinypex import ROOT, write_linked_base

START_S = 120.0
"""A worker imports in 1 to 2 s on an idle machine; a test machine may be busy."""


class Supervised:
    """A supervisor of `folder`/dist. A `with` block ends it, whatever state it is in.

    Attributes:
        turns_checked: Whether a slow turn of an event loop fails the test.
        prefix: Words of a command before the supervisor's own, which runs it in another way.
        python: The interpreter that runs it.
    """

    def __init__(self, folder: Path, **settings: object) -> None:
        self.dist = folder / "dist"
        self.run_path = folder / "run"
        self.settings = {
            "port": 0,
            "dist_path": self.dist,
            "cache_path": folder / "cache",
            "run_path": self.run_path,
            "state_path": folder / "state",
            "rollback_window_s": 0,
            "probation_s": 0,
        } | settings
        self.turns_checked = True
        self.tree = ROOT
        self.prefix: list[str] = []
        self.python = sys.executable
        self.start_s = START_S
        self.out, self.err = folder / "out.txt", folder / "err.txt"
        write_linked_base(self.dist / "base.pex")

    def command(self, *words: str) -> list[str]:
        return [*self.prefix, self.python, "-m", "runtime", *words]

    @property
    def environment(self) -> dict[str, str]:
        given = {f"PEXDOCK_{name.upper()}": str(value) for name, value in self.settings.items()}
        others = {name: value for name, value in os.environ.items() if not name.startswith("PEXDOCK_")}
        return others | given | {"PYTHONPATH": str(self.tree)}

    def start(self) -> Self:
        with self.out.open("ab") as out, self.err.open("ab") as err:
            self.process = subprocess.Popen(self.command("serve"), env=self.environment, cwd=self.dist, stdout=out, stderr=err)
        return self

    def __enter__(self) -> Self:
        self.start()
        try:
            self.until(self.has_started, self.start_s)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(30)
        self.process.kill()
        self.process.wait()
        if not any(error):
            self.check_turns()

    def check_turns(self) -> None:
        """Fails if a loop of the supervisor, a front door or a worker was blocked; the message names what has blocked it.

        Async handlers and models are the test's own, and so is what a worker imports for their first result, such as pandas.
        """
        of_model = ("async handler", "it was loading a model", "<frozen importlib")
        lines = self.err.read_text(errors="replace").splitlines()
        # On a busy machine, the start of a thread waits until the new thread gets a processor.
        blocked = [line for line in lines if "was blocked for" in line and "Thread.start (" not in line]
        slow = [line for line in blocked if "of this worker" not in line or not any(each in line for each in of_model)]
        assert not slow or not self.turns_checked, "\n".join(slow)

    def state(self) -> dict:
        """Returns the supervisor's state; empty before there is one. A killed one may have left its own."""
        with contextlib.suppress(FileNotFoundError):
            state = json.loads((self.run_path / "state.json").read_text())
            return state if state["pid"] == self.process.pid else {}
        return {}

    def releases(self, file: str) -> list[dict]:
        """Returns what is known of a file's name: more than one release while replaced content still serves."""
        return [each for each in self.state().get("releases", []) if each["file"] == file]

    def release(self, file: str) -> dict:
        return next(iter(self.releases(file)), {"state": "unknown"})

    def until(self, condition, deadline_s: float = START_S):
        """Waits until `condition` is true, and returns its result."""
        end = time.monotonic() + deadline_s
        while not (result := condition()):
            assert time.monotonic() < end, f"still not so: {json.dumps(self.state(), indent=1)}\n{self.err.read_text()[-5000:]}"
            assert self.process.poll() is None, self.err.read_text()[-5000:]
            time.sleep(0.02)
        return result

    def until_state(self, file: str, state: str) -> dict:
        return self.until(lambda: next((each for each in self.releases(file) if each["state"] == state), None))

    def has_started(self) -> bool:
        """Returns whether each front door serves what became ready at the start, with all workers of it.

        On a busy machine, a front door or the second worker of a release may still be importing when the first answers.
        """
        state = self.state()
        is_complete = all(each.get("state") != "degraded" for each in state.get("models", []))
        return bool(state.get("settled")) and is_complete and state["applied"] >= state["generation"]

    def readiness(self, model: str = "") -> httpx.Response:
        """Returns the response of `/readyz`, or of `/readyz/MODEL`."""
        return httpx.get(self.state()["address"] + "/readyz" + (f"/{model}" if model else ""), timeout=30)

    def is_ready(self) -> bool:
        """Returns whether each front door reports ready.

        The kernel distributes connections, so frequent requests reach several front doors.
        """
        times = 1 if self.settings.get("front_doors", 1) == 1 else 16
        with contextlib.suppress(httpx.TransportError):
            return all(httpx.get(self.state()["address"] + "/readyz", timeout=5).json()["ready"] for _ in range(times))
        return False

    def ask(self, path: str, x: int = 3, timeout_s: float = 60.0) -> httpx.Response:
        return httpx.post(self.state()["address"] + path, json=[{"x": x}], timeout=timeout_s)

    def predictions(self, path: str, x: int = 3) -> list:
        """Returns the predictions of one row, or the status if it is not 200."""
        reply = self.ask(path, x)
        return reply.json()["predictions"] if reply.status_code == 200 else [reply.status_code]

    def children(self) -> list[int]:
        """Returns every running process that it has started."""
        state = self.state()
        return [pid for pid in [*state["front_door_pids"], *(pid for each in state["releases"] for pid in each["worker_pids"])] if pid]


def runs(pid: int) -> bool:
    """Returns whether it runs; a zombie does not."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def open_files(pid: int) -> list[str]:
    """Returns what the descriptors of a process lead to. It may close some meanwhile."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(str(link.readlink()))
    return found
