"""What a model's code sees of its process, and the processes that it starts: both as in a plain program."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from runtime.settings import Settings
from supervisor_harness import Supervised
from tinypex import write_tiny

PLAIN = Path(__file__).parent.parent / "models/plain.py"


@pytest.fixture(scope="module")
def supervised(tmp_path_factory):
    supervised = Supervised(tmp_path_factory.mktemp("plain"))
    write_tiny(supervised.dist / "plain.pex", "plain", module=PLAIN.read_text())
    with supervised:
        yield supervised


def found(supervised, what):
    reply = httpx.post(f"{supervised.state()['address']}/plain", json=[{"do": what}], timeout=55)
    assert reply.status_code == 200, reply.text
    return json.loads(reply.json()["predictions"][0])


def plainly(what):
    """Returns what a plain program finds, which this starts as the supervisor is started."""
    done = subprocess.run([sys.executable, PLAIN, what], check=True, capture_output=True, text=True, start_new_session=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("what", ["masks_of_fork", "masks_by_fork", "masks_by_spawn", "masks_by_forkserver", "masks_of_program"])
def test_children_handle_signals_as_those_of_a_plain_program(supervised, what):
    """However they are started: blocked, ignored and handled signals are the same."""
    assert found(supervised, what) == plainly(what)


def test_children_can_be_terminated_at_once(supervised):
    """Even before they have begun, and those of a pool that is left while they compute."""
    assert found(supervised, "terminated_at_once") == [-15]
    assert found(supervised, "pool_left") == "left"


def test_exit_codes_are_those_of_a_plain_program(supervised):
    """Those of forked children that come back, and those of programs, which nobody else waits for."""
    assert found(supervised, "exit_codes") == [0, 3, 1]
    assert found(supervised, "program_codes") == list(range(50))


def test_a_forked_child_holds_no_connection(supervised):
    """Else the end of the worker would not be noticed while the child runs."""
    assert found(supervised, "sockets_of_fork") == []


def test_a_forked_child_keeps_the_rows_that_it_has(supervised):
    """It may read them after the request is answered, when the memory of other large requests is used again."""
    address = f"{supervised.state()['address']}/reads-later"
    for letter in "abc":
        texts = [{"text": letter * 200} for _ in range(5000)]
        assert httpx.post(address, json=texts, timeout=55).status_code == 200
    assert httpx.post(address, json=[{"text": ""}], timeout=55).json()["predictions"] == ["aaaaa aaaaa"]


def test_orphans_are_reaped_while_their_worker_serves(supervised):
    """In whatever session they are; the supervisor is their parent, even if it is not process 1."""
    pids = found(supervised, "orphans")
    assert len(set(pids)) == 50
    supervised.until(lambda: not [pid for pid in pids if Path(f"/proc/{pid}").exists()])
    assert supervised.release("plain.pex")["state"] == "ready"


def test_the_arguments_of_the_worker_are_hidden(supervised):
    """A model that parses `sys.argv` at its import finds that of a program without arguments."""
    assert found(supervised, "at_import")["argv"] == []


def test_a_command_that_a_handler_starts_knows_every_variable(supervised):
    """Each of Pexdock's variables is a setting, in a worker that was started again as well; others are an error of the command."""
    (first,) = supervised.release("plain.pex")["worker_pids"]
    settings = {f"PEXDOCK_{name.upper()}" for name in Settings.model_fields}
    at_first = found(supervised, "own_variables")
    assert "PEXDOCK_CACHE_PATH" in at_first
    assert set(at_first) <= settings
    os.kill(first, signal.SIGKILL)
    supervised.until(lambda: supervised.release("plain.pex")["worker_pids"] not in ([], [first]) and supervised.is_ready())
    assert found(supervised, "own_variables") == at_first


PARSES = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--needed", required=True)
parser.parse_args()
"""


def test_an_exit_at_the_import_is_shown_with_its_reason(supervised):
    """The code, and what the model said before; it is not tried again, since the file is at fault."""
    write_tiny(supervised.dist / "parses.pex", "parses", module=PARSES)
    release = supervised.until_state("parses.pex", "failed")
    assert "sys.exit(2)" in release["reason"]
    assert any("the following arguments are required: --needed" in line for line in release["log"])
