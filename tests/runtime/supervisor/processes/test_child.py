"""Tests of one child process: its messages, its output, its exit. With real children, on both kinds of event loop."""

import asyncio
import contextlib
import logging
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import uvloop

from base.ipc.control import Drain, Failed, Ready
from base.ipc.front_door_control import Listening, Route, RoutingTable, TableApplied
from base.ipc.release_spec import ReleaseSpec
from runtime.supervisor.host.spawner import spawner
from runtime.supervisor.processes.child import Child, ProcessSpec, child_environment, describe_exit
from runtime.supervisor.processes.child_output import LINE_MAX_BYTES, TAIL_MAX_BYTES, LogRateLimit, LogTail

PRELUDE = """
import json, os, signal, socket, subprocess, sys, time
control = socket.socket(fileno=int(sys.argv[sys.argv.index("--control-fd") + 1]))
def send(**message): control.sendall(json.dumps(message).encode() + b"\\n")
"""


class Watched:
    """A child that runs a script, and what it reported."""

    def __init__(self, script: str, **options) -> None:
        self.messages = []
        self.codes = []
        self.child = Child(
            "child",
            ProcessSpec([sys.executable, "-c", PRELUDE + textwrap.dedent(script)], dict(os.environ), **options),
            self.messages.append,
            self.codes.append,
        )

    async def until(self, condition, deadline_s=10.0):
        end = time.monotonic() + deadline_s
        while not condition():
            assert time.monotonic() < end, f"{self.messages} {self.codes} {self.child.output.tail.last_lines(5)}"
            await asyncio.sleep(0.005)

    async def end(self, deadline_s=10.0):
        await asyncio.wait_for(self.child.exited.wait(), deadline_s)
        return self.codes


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request):
    """Runs a coroutine function with a `start` that spawns, and checks that nothing is left."""

    def run(scenario):
        started = []

        async def main():
            spawner()  # it stays
            before = descriptors()

            def start(script, **options):
                watched = Watched(script, **options)
                watched.child.start()
                started.append(watched)
                return watched

            try:
                await scenario(start)
            finally:
                for watched in started:
                    watched.child.close()
            assert descriptors() <= before

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(main())
        assert not [watched for watched in started if alive(watched.child.pid)]

    return run


def descriptors() -> set[str]:
    """Those that are open. Reading the folder opens one more, which is gone before its target is read."""
    return {path.name for path in Path("/proc/self/fd").iterdir() if path.is_symlink()}


def alive(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_messages_pass_in_both_directions(run):
    """The child responds to a drain, and exits when its end of the socket is closed."""

    async def scenario(start):
        watched = start('send(type="listening"); control.recv(99); send(type="table_applied", generation=7); sys.exit(3)')
        await watched.until(lambda: watched.messages == [Listening()])
        watched.child.send(Drain())
        assert await watched.end() == [3]
        assert watched.messages == [Listening(), TableApplied(7)]

    run(scenario)


def test_a_message_sent_just_before_the_exit_is_not_lost(run):
    """`failed` explains the exit, so it has to come before it."""

    async def scenario(start):
        for _ in range(10):
            watched = start('send(type="failed", code="x", reason="y"); os._exit(64)')
            assert await watched.end() == [64]
            assert watched.messages == [Failed("x", "y")]

    run(scenario)


def test_a_flood_of_output_never_blocks_the_child_and_leaves_a_bounded_tail(run):
    """A model may print a megabyte on stderr while it is imported."""

    async def scenario(start):
        watched = start(
            'sys.stderr.write("x" * 999 + "\\n"); print("y" * 99, file=sys.stderr, end="\\n" * 2)\nfor _ in range(3000): print("z" * 999)'
        )
        assert await watched.end() == [0]
        last = watched.child.output.tail.last_lines(10_000)
        assert set(last) == {"z" * 999}
        assert TAIL_MAX_BYTES - 1000 <= sum(len(line) + 1 for line in last) <= TAIL_MAX_BYTES

    run(scenario)


def test_whole_lines_reach_the_log_under_the_childs_name(run, caplog):
    """The last line, which has no line end, and bytes that are not text do so too."""

    async def scenario(start):
        watched = start('os.write(1, b"one\\ntw"); control.recv(1); os.write(2, b"o \\xff\\nend")')
        await watched.until(lambda: "child: one" in caplog.messages)
        watched.child.send(Drain())
        await watched.end()

    with caplog.at_level(logging.INFO, logger="runtime.supervisor.processes.child_output"):
        run(scenario)
    assert [record.message for record in caplog.records] == ["child: one", "child: two \\xff", "child: end"]


def test_a_grandchild_is_killed_with_its_parent_even_while_it_holds_the_pipes(run):
    """A process that a model starts must neither outlive it nor hide its exit by keeping stdout and the control socket open."""

    async def scenario(start):
        watched = start("""
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(99)"], close_fds=False)
            os.set_inheritable(control.fileno(), True)
            send(type="table_applied", generation=child.pid)
            os._exit(1)
        """)
        assert await watched.end() == [1]
        (applied,) = watched.messages
        await watched.until(lambda: not alive(applied.generation))

    run(scenario)


def test_a_child_leads_a_session_of_its_own_and_files_it_makes_are_private(run):
    """Ctrl-C in a terminal reaches the foreground group only."""

    async def scenario(start):
        watched = start('send(type="failed", code=str(os.getsid(0) == os.getpgid(0) == os.getpid()), reason=oct(os.umask(0)))')
        await watched.end()
        assert watched.messages == [Failed("True", "0o77")]

    run(scenario)


def test_a_child_that_does_not_read_gets_only_the_newest_table(run):
    """Tables queue up while a front door is busy, and only the last one counts. Other messages keep their place."""
    big = ReleaseSpec("iris", "1" * 300_000, [])

    async def scenario(start):
        watched = start("""
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
            control.recv(1, socket.MSG_PEEK)
            send(type="listening")
            signal.sigwait({signal.SIGUSR1})
            for line in control.makefile():
                word = json.loads(line)
                if word["type"] == "drain": break
                send(type="table_applied", generation=word["generation"])
        """)
        watched.child.send(RoutingTable(0, [Route(big, [])], startup_complete=False))
        await watched.until(lambda: watched.messages)
        for generation in range(1, 100):
            watched.child.send(RoutingTable(generation, [Route(big, [])], startup_complete=False))
        watched.child.send(Drain())
        os.kill(watched.child.pid, signal.SIGUSR1)
        await watched.end()
        assert [word.generation for word in watched.messages[1:]] == [0, 99]

    run(scenario)


@pytest.mark.parametrize("line", ["no json", '{"type": "gossip"}'])
def test_a_child_that_sends_an_invalid_message_is_drained(run, line):
    """Nothing more is read from it, but clients may wait for it."""

    async def scenario(start):
        watched = start(f"control.sendall(b{line!r} + b'\\n')\nos._exit(json.loads(control.recv(999))['type'] == 'drain')")
        assert await watched.end() == [1]

    run(scenario)


def test_a_child_that_dies_with_messages_unread_is_reaped_like_any_other(run):
    """The kernel resets such a socket instead of closing it."""

    async def scenario(start):
        watched = start('send(type="listening"); control.recv(1, socket.MSG_PEEK); os._exit(5)')
        await watched.until(lambda: watched.messages)
        watched.child.send(Drain())
        assert await watched.end() == [5]
        watched.child.send(Drain())
        watched.child.kill()

    run(scenario)


def test_a_command_that_does_not_exist_leaves_nothing(run):
    """The caller gets the error; no descriptor stays open."""

    async def scenario(_):
        child = Child("child", ProcessSpec(["/nowhere/python"], {}), print, print)
        with pytest.raises(FileNotFoundError):
            child.start()
        child.close()

    run(scenario)


def test_further_descriptors_are_inherited_under_their_own_numbers(run, tmp_path):
    """The front door inherits the listening socket this way."""
    path = tmp_path / "file"
    with path.open("w") as file:

        async def scenario(start):
            watched = start(f"os.write({file.fileno()}, b'here')", fds=[file.fileno()])
            assert await watched.end() == [0]

        run(scenario)
    assert path.read_text() == "here"


def test_descendants_of_a_process_are_killed():
    """A thread may be waiting for a compiler with children of its own at a shutdown."""
    script = """
        import subprocess, sys, threading, time
        from runtime.supervisor.host.process_tree import kill_descendants
        leaf = "import time; print('here', flush=True); time.sleep(99)"
        tool = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
        process = subprocess.Popen([sys.executable, "-c", tool, leaf], stdout=subprocess.PIPE)
        process.stdout.readline()
        kill_descendants()
        print(process.wait(9), process.stdout.read())  # the pipe ends once nobody is left who holds it
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, stdout=subprocess.PIPE, text=True, timeout=30)
    assert done.stdout == f"{-signal.SIGKILL} b''\n"


def test_variables_that_steer_python_pex_and_pexdock_do_not_reach_a_child():
    """A shell's PYTHONPATH would change what a release is. The user's choice about telemetry stays."""
    parent = {"PATH": "/bin", "PYTHONPATH": "x", "PYTHONDONTWRITEBYTECODE": "1", "PEX_PATH": "y", "PEXDOCK_PORT": "1", "DO_NOT_TRACK": "0"}
    assert child_environment(parent, {"PEXDOCK_ARTIFACTS_PATH": "/a"}) == {
        "PATH": "/bin",
        "DO_NOT_TRACK": "0",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONUNBUFFERED": "1",
        "PEXDOCK_ARTIFACTS_PATH": "/a",
    }


def test_an_exit_is_described_in_words():
    """The text is shown by `pexdock models`."""
    assert describe_exit(3) == "exited with code 3"
    assert describe_exit(-signal.SIGSEGV) == "was killed by SIGSEGV"
    assert "memory" in describe_exit(-signal.SIGKILL)


def test_lines_are_complete_however_the_bytes_are_split():
    """One byte at a time is the worst case of a pipe."""
    tail = LogTail()
    data = "eins\r\nzwei ü\n\ndrei".encode()
    lines = [line for byte in data for line in tail.append(bytes([byte]))] + tail.finish()
    assert [line.text for line in lines] == ["eins", "zwei ü", "", "drei"]
    assert tail.last_lines(2) == ["zwei ü", "drei"]


@pytest.mark.parametrize("secret", ["", "0123456789abcdef"])
def test_marked_lines_have_a_level_however_the_bytes_are_split(secret):
    """A mark ends a print without a line end, and each piece of a long line has the level of the line."""
    data = b"print\n\x1eEfirst\n\x1eEsecond\nunfinished\x1eWthird\n\x1e{no mark}\n\x1eI" + b"x" * (LINE_MAX_BYTES + 5) + b"\nend"
    data = re.sub(rb"\x1e(?=[EWI])", b"\x1e" + secret.encode(), data) + b"\n\x1eCforged"
    expected = [
        ("print", None),
        ("first", logging.ERROR),
        ("second", logging.ERROR),
        ("unfinished", None),
        ("third", logging.WARNING),
        (r"\x1e{no mark}", None),
        ("x" * (LINE_MAX_BYTES - 2 - len(secret)), logging.INFO),
        ("x" * (7 + len(secret)), logging.INFO),
        ("end", None),
        (r"\x1eCforged" if secret else "forged", None if secret else logging.CRITICAL),
    ]
    for size in (1, 7, len(data)):
        tail = LogTail(secret)
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        assert [line for piece in pieces for line in tail.append(piece)] + tail.finish() == expected


def test_control_characters_are_escaped_and_the_text_is_kept():
    """A terminal that shows the log obeys none of them: it is not cleared, and no line is overwritten."""
    tail = LogTail()
    data = "\x1b[2J\x1b[31mrød\x1b[0m\tend\n 10%\r 20%\r\nab\bc\0\x7f\u009b1A\n\x1eE\x1b]0;t\a\n".encode()
    expected = [
        (r"\x1b[2J\x1b[31mrød\x1b[0m" + "\tend", None),
        (r" 10%\x0d 20%", None),
        (r"ab\x08c\x00\x7f\x9b1A", None),
        (r"\x1b]0;t\x07", logging.ERROR),
    ]
    assert tail.append(data) == expected
    assert tail.last_lines(4) == [text for text, _ in expected]


def test_output_without_line_ends_is_split_and_bounded():
    """A progress bar of a gigabyte must not fill the supervisor's memory."""
    tail = LogTail()
    for _ in range(100):
        assert all(len(line.text) <= LINE_MAX_BYTES for line in tail.append(b"x" * 100_000))
    assert sum(len(line) for line in tail.last_lines(10_000)) <= TAIL_MAX_BYTES
    assert len(tail._rest) <= LINE_MAX_BYTES


def test_the_largest_message_survives_the_socket(run):
    """Ready is the largest message of a worker."""
    word = Ready(1, "0.1.0", ReleaseSpec("iris", "0.1.0" * 100_000, []))

    async def scenario(start):
        watched = start(
            'send(type="ready", wire=1, base_version="0.1.0", release=dict(model="iris", version="0.1.0" * 100000, endpoints=[]))'
        )
        await watched.end()
        assert watched.messages == [word]

    run(scenario)


def test_a_rate_limit_recovers_with_time():
    """It recovers up to its burst, and no further."""
    budget = LogRateLimit(100, 10)
    assert [budget.allows(60, 1000.0), budget.allows(60, 1000.0), budget.allows(40, 1000.0)] == [True, False, True]
    assert [budget.allows(20, 1001.0), budget.allows(20, 1002.0)] == [False, True]
    assert [budget.allows(101, 9999.0), budget.allows(100, 9999.0)] == [False, True]
