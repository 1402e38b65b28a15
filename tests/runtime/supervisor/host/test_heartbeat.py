"""Questions to a process, which is asked only if it has run since its last answer."""

import asyncio
import subprocess
import sys
from contextlib import contextmanager

from runtime.supervisor.host.heartbeat import Heartbeat, read_activity

INTERVAL_S = 0.2


@contextmanager
def process(code):
    """Runs Python code in a process that has printed a line."""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as running:
        running.stdout.readline()
        try:
            yield running
        finally:
            running.kill()


async def ask(pid, seconds, *, answers):
    """Returns how often the process was asked, and whether it was found silent."""
    asked, silent = [], asyncio.Event()

    def question():
        asked.append(1)
        if answers:
            heartbeat.on_answer()

    heartbeat = Heartbeat(pid, INTERVAL_S, question, silent.set)
    try:
        await asyncio.wait_for(silent.wait(), seconds)
    except TimeoutError:
        pass
    heartbeat.stop()
    return len(asked), silent.is_set()


def test_an_idle_process_is_asked_once():
    """Its answer does not count as activity."""
    with process("import time; print(flush=True); time.sleep(60)") as idle:
        assert asyncio.run(ask(idle.pid, 2.0, answers=True)) == (1, False)


def test_a_process_that_runs_is_asked_again():
    """It might hang since its last answer."""
    with process("import time\nprint(flush=True)\nwhile True: time.sleep(0.01)") as busy:
        asked, silent = asyncio.run(ask(busy.pid, 3.0, answers=True))
    assert asked >= 2
    assert not silent


def test_a_process_that_does_not_answer_is_silent():
    """It is asked once, and reported after a second interval."""
    with process("print(flush=True)\nwhile True: pass") as hanging:
        assert asyncio.run(ask(hanging.pid, 30.0, answers=False)) == (1, True)


def test_a_process_that_is_gone_has_no_activity():
    """Its exit is noticed elsewhere."""
    with process("print(flush=True)") as gone:
        gone.wait()
        pid = gone.pid
    assert read_activity(pid) == ()
