"""Workers that start: at lower priority than serving ones, a limited number at once, and without delaying anybody else."""

import os
import time
from pathlib import Path

import httpx
import pytest

from runtime.supervisor.host.niceness import can_restore_niceness
from runtime.supervisor.processes.start_limiter import SLOT_MAX_S
from supervisor_harness import Supervised
from tinypex import held, times, write_tiny


def nice(pid):
    """Returns the niceness of each of its threads, and of its session."""
    tasks = {os.getpriority(os.PRIO_PROCESS, int(entry.name)) for entry in Path(f"/proc/{pid}/task").iterdir()}
    group = Path(f"/proc/{pid}/autogroup").read_text().split()[2] if Path(f"/proc/{pid}/autogroup").exists() else "0"
    return tasks, int(group)


@pytest.fixture
def supervised(tmp_path):
    return Supervised(tmp_path, start_parallel=2)


@pytest.mark.skipif(not can_restore_niceness(), reason="needs the right to set back a priority")
def test_a_worker_is_nicer_until_it_is_ready(supervised, tmp_path):
    """This includes every thread that its imports start. A serving worker never is."""
    write_tiny(supervised.dist / "tiny.pex", "tiny")
    with supervised:
        (serving,) = supervised.release("tiny.pex")["worker_pids"]
        write_tiny(supervised.dist / "held.pex", "held", module=held(tmp_path, "held"))
        supervised.until((tmp_path / "held").exists)
        (starting,) = supervised.until(lambda: supervised.release("held.pex").get("worker_pids"))
        own = os.getpriority(os.PRIO_PROCESS, 0)
        supervised.until(lambda: len(list(Path(f"/proc/{starting}/task").iterdir())) > 1)
        assert nice(starting)[0] == {own + 5}
        assert nice(serving) == ({own}, 0)
        (tmp_path / "go-held").touch()
        supervised.until_state("held.pex", "ready")
        supervised.until(lambda: nice(starting) == ({own}, 0))


def test_the_number_of_concurrent_starts_is_limited_and_a_restart_waits_for_none(supervised, tmp_path):
    """Hanging starts delay the others only for a while. A worker that clients wait for starts at once."""
    write_tiny(supervised.dist / "tiny.pex", "tiny")
    with supervised:
        began = time.monotonic()
        for name in ("a", "b", "c"):
            write_tiny(supervised.dist / f"{name}.pex", name, module=held(tmp_path, name))
        supervised.until(lambda: len(marks(tmp_path)) >= 2)
        (pid,) = supervised.release("tiny.pex")["worker_pids"]
        os.kill(pid, 9)
        supervised.until(lambda: supervised.predictions("/tiny") == [6])
        # On a busy machine this may take longer than a turn does, and then the third one has begun.
        assert len(marks(tmp_path)) == 2 or time.monotonic() - began > SLOT_MAX_S
        for name in "abc":
            (tmp_path / f"go-{name}").touch()
        supervised.until(lambda: all(supervised.release(f"{name}.pex")["state"] == "ready" for name in "abc"))


def marks(folder):
    """Returns the models whose import has begun."""
    return {name for name in "abc" if (folder / name).exists()}


def test_a_release_that_waits_to_start_can_be_replaced_and_stopped(supervised, tmp_path):
    """Nothing waits for a process that was never started."""
    with supervised:
        for name in ("a", "b", "c"):
            write_tiny(supervised.dist / f"{name}.pex", name, module=held(tmp_path, name))
        supervised.until(lambda: len(marks(tmp_path)) == 2)
        (waiting,) = set("abc") - marks(tmp_path)
        write_tiny(supervised.dist / f"{waiting}2.pex", waiting, "0.2.0", times(7, f"/{waiting}"))
        for name in marks(tmp_path):
            (tmp_path / f"go-{name}").touch()
        supervised.until(lambda: supervised.predictions(f"/{waiting}") == [21])
        write_tiny(supervised.dist / "d.pex", "d", module=held(tmp_path, "d"))
        write_tiny(supervised.dist / "e.pex", "e", module=held(tmp_path, "e"))
        write_tiny(supervised.dist / "f.pex", "f", module=held(tmp_path, "f"))
        supervised.until((tmp_path / "d").exists)
        supervised.process.terminate()
        assert supervised.process.wait(30) == 0


def test_a_job_worker_is_nicer_once_it_is_ready(tmp_path):
    """Not before: its start would take minutes on a busy machine. This includes its threads."""
    supervised = Supervised(tmp_path, job_workers=1)
    write_tiny(supervised.dist / "held.pex", "held", module=held(tmp_path, "held"))
    gate, own = tmp_path / "go-held", os.getpriority(os.PRIO_PROCESS, 0)
    gate.touch()
    with supervised:
        supervised.until_state("held.pex", "ready")
        gate.unlink()
        (tmp_path / "held").unlink()
        url, headers = supervised.state()["address"] + "/held", {"prefer": "respond-async"}
        assert httpx.post(url, json=[{"x": 3}], headers=headers, timeout=60).status_code == 202
        supervised.until((tmp_path / "held").exists)
        (pid,) = supervised.until(lambda: supervised.release("held.pex")["job_worker_pids"])
        assert nice(pid) == ({own}, 0)
        gate.touch()
        supervised.until(lambda: nice(pid)[0] == {min(own + 15, 19)})
