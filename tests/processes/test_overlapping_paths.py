"""Two models whose paths overlap, under clients that know the right answers, over starts, restarts and failures."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent, indent

import httpx
import pytest

from servers import free_port
from supervisor_harness import Supervised
from tinypex import times, write_tiny

BY_ANY, BY_M01 = [6], [9]
GATED = """
    import time
    from pathlib import Path
    while not Path({gate!r}).exists():
        time.sleep(0.01)
"""
CRASHING = """
    import os
    with open({count!r}, "a+") as file:
        file.write("x")
        crashes = file.tell()
    if crashes <= {crashes}:
        os._exit(9)
"""


class Clients:
    """A client for each path, which sends requests without end and keeps every answer.

    Attributes:
        answers: Path → predictions, or the status and the detail of an error.
    """

    def __init__(self, address: str, *paths: str) -> None:
        self.answers: dict[str, list[object]] = {path: [] for path in paths}
        self._address = address
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(path,)) for path in paths]

    def __enter__(self) -> dict[str, list[object]]:
        for thread in self._threads:
            thread.start()
        return self.answers

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, path: str) -> None:
        with httpx.Client(base_url=self._address, timeout=30) as client:
            while not self._ended.wait(0.01):
                try:
                    reply = client.post(path, json=[{"x": 3}])
                except httpx.TransportError:  # Pexdock is not there
                    continue
                body = reply.json()
                if reply.status_code == 503:
                    assert "retry-after" in reply.headers
                self.answers[path].append(body["predictions"] if reply.status_code == 200 else (reply.status_code, body["detail"]))


@pytest.fixture
def pexdock(tmp_path: Path) -> Supervised:
    """A supervisor with the same port after each start."""
    return Supervised(tmp_path, port=free_port())


@contextmanager
def running(pexdock: Supervised) -> Iterator[str]:
    """Starts it, without waiting for anything but its state, and yields its address."""
    pexdock.start()
    try:
        yield pexdock.until(lambda: pexdock.state().get("address"))
    finally:
        pexdock.__exit__()


def drop_any(pexdock: Supervised, gate: Path | None = None) -> None:
    write_tiny(pexdock.dist / "any-0.1.0.pex", "any", module=gated(gate) + times(2, "/{any}"))


def drop_m01(pexdock: Supervised, gate: Path | None = None, version: str = "0.1.0") -> None:
    write_tiny(pexdock.dist / f"m01-{version}.pex", "m01", version, module=gated(gate) + times(3, "/m01"))


def gated(gate: Path | None) -> str:
    """Returns code that waits until a file exists."""
    return "" if gate is None else GATED.format(gate=str(gate))


def wait_answers(pexdock: Supervised, answers: dict[str, list[object]], count: int = 20) -> None:
    """Waits until each client has got `count` further answers."""
    before = {path: len(found) for path, found in answers.items()}
    pexdock.until(lambda: all(len(found) >= before[path] + count for path, found in answers.items()))


def kinds(answers: list[object]) -> set[str]:
    return {str(answer) for answer in answers}


def test_at_a_first_start_no_model_answers_what_may_belong_to_one_that_still_starts(pexdock: Supervised, tmp_path: Path) -> None:
    """The model with the more specific path gets it, although the other one was ready long before. The other is refused with a way out."""
    gate = tmp_path / "gate"
    drop_any(pexdock)
    drop_m01(pexdock, gate)
    with running(pexdock) as address, Clients(address, "/m01", "/%6d01", "/m02") as answers:
        pexdock.until(lambda: "it waits until those of m01 0.1.0 are known" in pexdock.release("any-0.1.0.pex").get("reason", ""))
        pexdock.until(lambda: all("model any is starting" in str(found[-1:]) for found in answers.values()))
        wait_answers(pexdock, answers)
        assert pexdock.release("any-0.1.0.pex")["state"] == "starting"
        assert {status for found in answers.values() for status, _ in found} == {503}  # type: ignore[misc]
        gate.touch()
        pexdock.until_state("m01-0.1.0.pex", "ready")
        refused = pexdock.until_state("any-0.1.0.pex", "refused")
        pexdock.until(lambda: answers["/m01"][-1] == answers["/%6d01"][-1] == BY_M01)
        assert refused["reason"] == (
            "path /{any} belongs to m01 0.1.0 as /m01, from m01-0.1.0.pex, and a request must not match paths of two models: "
            "give any a path that overlaps none of m01, or remove the files of m01 and restart Pexdock"
        )
        pexdock.until(lambda: answers["/m02"][-1] == (404, "no endpoint has this path; GET /docs lists those that are served"))
    assert str(BY_ANY) not in kinds([*answers["/m01"], *answers["/%6d01"], *answers["/m02"]])
    assert refused["reason"] in pexdock.err.read_text()


@pytest.mark.timeout(300)
def test_a_path_stays_with_the_model_that_has_served_it_over_restarts_and_failures(pexdock: Supervised, tmp_path: Path) -> None:
    """While that model starts, fails or is refused, the path is a 503 that says so. Another model with a more specific path is refused."""
    gate = tmp_path / "gate"
    drop_m01(pexdock)
    with Clients(f"http://127.0.0.1:{pexdock.settings['port']}", "/m01", "/%6D01/") as answers:
        with running(pexdock):
            pexdock.until(lambda: all(found[-1:] == [BY_M01] for found in answers.values()))
        drop_m01(pexdock, gate)
        drop_any(pexdock)
        with running(pexdock):
            refused = pexdock.until_state("any-0.1.0.pex", "refused")
            assert "path /{any} belongs to model m01 as /m01" in refused["reason"]
            pexdock.until(lambda: all("model m01 is warming" in str(found[-1]) for found in answers.values()))
            gate.touch()
            pexdock.until(lambda: all(found[-1:] == [BY_M01] for found in answers.values()))
        for content, state in (("import no_such_module", "failed"), ("", "refused")):
            write_tiny(pexdock.dist / "m01-0.1.0.pex", "m01", module=content)
            if not content:
                (pexdock.dist / "m01-0.1.0.pex").write_text("not a pex")
            with running(pexdock):
                pexdock.until_state("m01-0.1.0.pex", state)
                pexdock.until_state("any-0.1.0.pex", "refused")
                pexdock.until(lambda state=state: all(f"model m01 is {state}" in str(found[-1]) for found in answers.values()))
    for found in answers.values():
        assert {status for status, _ in (answer for answer in found if answer != BY_M01)} == {503}  # type: ignore[misc]


@pytest.mark.timeout(300)
def test_a_path_goes_to_another_model_only_once_its_model_is_gone(pexdock: Supervised, tmp_path: Path) -> None:
    """From then on it belongs to the other one, also if the first model comes back and would be ready sooner."""
    gate = tmp_path / "gate"
    drop_m01(pexdock)
    drop_any(pexdock)
    with Clients(f"http://127.0.0.1:{pexdock.settings['port']}", "/m01", "/%6D01/") as answers:
        with running(pexdock):
            pexdock.until_state("any-0.1.0.pex", "refused")
            pexdock.until(lambda: all(found[-1:] == [BY_M01] for found in answers.values()))
        (pexdock.dist / "m01-0.1.0.pex").unlink()
        with running(pexdock):
            pexdock.until(lambda: all(found[-1:] == [BY_ANY] for found in answers.values()))
            drop_m01(pexdock)
            assert "path /m01 belongs to any 0.1.0 as /{any}" in pexdock.until_state("m01-0.1.0.pex", "refused")["reason"]
            wait_answers(pexdock, answers)
        drop_any(pexdock, gate)
        with running(pexdock):
            assert "path /m01 belongs to model any as /{any}" in pexdock.until_state("m01-0.1.0.pex", "refused")["reason"]
            pexdock.until(lambda: all("model any is warming" in str(found[-1]) for found in answers.values()))
            gate.touch()
            pexdock.until(lambda: all(found[-1:] == [BY_ANY] for found in answers.values()))
    for found in answers.values():
        assert {answer[0] for answer in found if answer not in (BY_M01, BY_ANY)} == {503}  # type: ignore[index]
        assert BY_M01 not in found[found.index(BY_ANY) :]


@pytest.mark.timeout(300)
def test_of_two_new_models_with_one_path_none_answers_before_it_is_known_whose_it_is(pexdock: Supervised, tmp_path: Path) -> None:
    """The first name gets it, though its model is ready long after the other: at the first start, with the state of a run and without."""
    gate = tmp_path / "gate"
    write_tiny(pexdock.dist / "aaa-0.1.0.pex", "aaa", module=gated(gate) + times(3, "/same"))
    write_tiny(pexdock.dist / "bbb-0.1.0.pex", "bbb", module=times(2, "/same"))
    with Clients(f"http://127.0.0.1:{pexdock.settings['port']}", "/same") as answers:
        with running(pexdock):
            waiting = "its paths are new, and it waits until those of aaa 0.1.0 are known"
            pexdock.until(lambda: pexdock.release("bbb-0.1.0.pex").get("reason") == waiting)
            assert pexdock.release("bbb-0.1.0.pex")["state"] == "starting"
            pexdock.until(lambda: waiting in pexdock.readiness("bbb").text)
            pexdock.until(lambda: "model bbb is starting" in str(answers["/same"][-1:]))
            wait_answers(pexdock, answers)
            gate.touch()
            refused = pexdock.until_state("bbb-0.1.0.pex", "refused")
            assert "path /same belongs to aaa 0.1.0, from aaa-0.1.0.pex" in refused["reason"]
            pexdock.until(lambda: answers["/same"][-1] == [9])
        for state_is_kept in (True, False):
            gate.unlink()
            if not state_is_kept:
                shutil.rmtree(pexdock.settings["state_path"])
            with running(pexdock):
                pexdock.until(lambda: pexdock.release("bbb-0.1.0.pex").get("paths") == ["/same"])
                wait_answers(pexdock, answers)
                gate.touch()
                pexdock.until_state("bbb-0.1.0.pex", "refused")
                pexdock.until(lambda: answers["/same"][-1] == [9])
    assert {answer[0] for answer in answers["/same"] if answer != [9]} == {503}  # type: ignore[index]


@pytest.mark.timeout(300)
def test_new_paths_wait_for_a_model_that_crashes_before_it_has_described_its_own(pexdock: Supervised, tmp_path: Path) -> None:
    """But not for long, if it goes on crashing. What serves goes on, and nothing waits for a warm-up: paths are described before it."""
    gate, count = tmp_path / "gate", tmp_path / "count"
    write_tiny(pexdock.dist / "old-0.1.0.pex", "old", module=times(5, "/old"))
    with pexdock, Clients(pexdock.state()["address"], "/m01", "/old") as answers:
        pexdock.until(lambda: answers["/old"][-1:] == [[15]])
        crashing = CRASHING.format(count=str(count), crashes=1)
        write_tiny(pexdock.dist / "m01-0.1.0.pex", "m01", module=crashing + gated(gate) + times(3, "/m01"))
        write_tiny(pexdock.dist / "xyz-0.1.0.pex", "xyz", module=times(2, "/{any}/{thing}"))
        write_tiny(pexdock.dist / "zyx-0.1.0.pex", "zyx", module=times(2, "/m01"))
        for file in ("xyz-0.1.0.pex", "zyx-0.1.0.pex"):
            pexdock.until(lambda file=file: "it waits until those of m01 0.1.0 are known" in pexdock.release(file).get("reason", ""))
        pexdock.until(lambda: count.exists() and count.read_text() == "xx")
        wait_answers(pexdock, answers)
        gate.touch()
        pexdock.until(lambda: answers["/m01"][-1] == BY_M01)
        pexdock.until_state("zyx-0.1.0.pex", "refused")
        pexdock.until_state("xyz-0.1.0.pex", "ready")
        assert {answer[0] for answer in answers["/m01"] if answer != BY_M01} <= {404, 503}  # type: ignore[index]

        count.unlink()
        write_tiny(pexdock.dist / "bad-0.1.0.pex", "bad", module=CRASHING.format(count=str(count), crashes=1000) + times(2, "/bad"))
        write_tiny(pexdock.dist / "new-0.1.0.pex", "new", module=times(2, "/new"))
        pexdock.until_state("new-0.1.0.pex", "ready")
        assert len(count.read_text()) >= 3
        remarks = next(each["remarks"] for each in pexdock.state()["models"] if each["name"] == "bad")
        assert remarks == ["0.1.0 has failed so often that other models no longer wait for its paths"]
        assert pexdock.predictions("/new") == [6]

        gate.unlink()
        warming = times(2, "/slow").replace("        return", f"{indent(dedent(GATED.format(gate=str(gate))), 8 * ' ')}\n        return")
        write_tiny(pexdock.dist / "slow-0.1.0.pex", "slow", module=warming)
        write_tiny(pexdock.dist / "slower-0.1.0.pex", "slower", module=times(2, "/slow"))
        write_tiny(pexdock.dist / "quick-0.1.0.pex", "quick", module=times(2, "/quick"))
        pexdock.until_state("slower-0.1.0.pex", "refused")
        pexdock.until_state("quick-0.1.0.pex", "ready")
        assert pexdock.release("slow-0.1.0.pex")["state"] == "starting"
        gate.touch()
        pexdock.until_state("slow-0.1.0.pex", "ready")
    assert {str(answer) for answer in answers["/old"]} == {"[15]"}


@pytest.mark.timeout(300)
def test_a_rollback_takes_no_path_back_that_another_model_serves_by_now(pexdock: Supervised) -> None:
    """The command says why, and what serves goes on."""
    write_tiny(pexdock.dist / "two-0.1.0.pex", "two", module=times(2, "/m01"))
    drop_m01(pexdock)
    with pexdock:
        pexdock.until_state("two-0.1.0.pex", "refused")
        assert pexdock.predictions("/m01") == BY_M01
        write_tiny(pexdock.dist / "m01-0.2.0.pex", "m01", "0.2.0", module=times(4, "/m02"))
        pexdock.until(lambda: pexdock.predictions("/m02") == [12])
        pexdock.until(lambda: pexdock.predictions("/m01") == [6])
        rollback = subprocess.run(pexdock.command("rollback", "m01"), env=pexdock.environment, capture_output=True, text=True, timeout=60)
        assert rollback.returncode == 1
        assert "path /m01 belongs to two 0.1.0, from two-0.1.0.pex" in rollback.stderr
        assert pexdock.predictions("/m02") == [12]
        assert pexdock.predictions("/m01") == [6]
