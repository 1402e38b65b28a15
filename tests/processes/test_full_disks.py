"""Real supervisors on a full or read-only disk, or without descriptors: they report why, and recover by themselves."""

import os
import resource
import signal

from privileges import unprivileged
from supervisor_harness import Supervised
from tinypex import write_tiny


def says(supervised, text):
    return text in supervised.err.read_text()


def test_a_pex_without_room_in_the_cache_is_refused_and_taken_once_there_is_room(tmp_path, disk):
    """Serving goes on, and nobody has to deploy it again."""
    supervised = Supervised(tmp_path, cache_path=disk.path)
    write_tiny(supervised.dist / "tiny.pex", "tiny")
    with supervised:
        disk.fill()
        write_tiny(supervised.dist / "late.pex", "late")
        refused = supervised.until_state("late.pex", "refused")
        assert "No space left on device" in refused["reason"]
        assert "retrying in" in refused["reason"]
        assert supervised.predictions("/tiny") == [6]
        disk.empty()
        supervised.until(lambda: supervised.predictions("/late") == [6])
        supervised.until_state("late.pex", "ready")


def test_a_read_only_cache_refuses_everything_and_serves_it_once_writable(tmp_path, disk):
    """This holds from the start, for base and model."""
    supervised = Supervised(tmp_path, cache_path=disk.path / "cache")
    write_tiny(supervised.dist / "tiny.pex", "tiny")
    disk.let_write(allowed=False)
    supervised.start()
    try:
        supervised.until(lambda: "Read-only file system" in supervised.release("base.pex").get("reason", ""))
        disk.let_write(allowed=True)
        supervised.until(lambda: supervised.state().get("address") and supervised.is_ready())
        supervised.until(lambda: supervised.predictions("/tiny") == [6])
    finally:
        supervised.__exit__()


def test_a_cache_without_permission_refuses_everything_and_serves_it_once_it_is_given(tmp_path):
    """The reason names the folder, its setting and the remedy, without a traceback."""
    supervised = Supervised(tmp_path, scratch_path=tmp_path / "scratch")
    write_tiny(supervised.dist / "tiny.pex", "tiny")
    cache = supervised.settings["cache_path"]
    cache.mkdir()
    supervised.prefix = unprivileged(tmp_path)
    cache.chmod(0o555)
    supervised.start()
    try:
        reason = supervised.until(lambda: supervised.release("base.pex").get("reason", ""))
        assert f"(in cache_path, {cache}): Permission denied; give user" in reason
        assert "retrying in" in reason
        cache.chmod(0o755)
        supervised.until(lambda: supervised.state().get("address") and supervised.is_ready())
        supervised.until(lambda: supervised.predictions("/tiny") == [6])
        assert not says(supervised, "Traceback")
    finally:
        supervised.__exit__()


def test_a_full_run_directory_stops_no_service_and_its_state_recovers(tmp_path, disk):
    """A worker that is killed meanwhile comes back, and then the state file shows it."""
    supervised = Supervised(tmp_path, run_path=disk.path / "run")
    supervised.run_path = disk.path / "run"
    write_tiny(supervised.dist / "tiny.pex", "tiny")
    with supervised:
        worker = supervised.release("tiny.pex")["worker_pids"][0]
        disk.fill()
        os.kill(worker, signal.SIGKILL)
        supervised.until(lambda: says(supervised, "cannot write the state file, will retry: "))
        supervised.until(lambda: says(supervised, "restarting in") and supervised.predictions("/tiny") == [6])
        assert supervised.release("tiny.pex")["worker_pids"] == [worker]  # as it was before
        disk.empty()
        supervised.until(lambda: supervised.release("tiny.pex")["worker_pids"] not in ([], [worker]))
        assert supervised.predictions("/tiny") == [6]


def test_a_full_run_directory_fails_the_start_with_a_reason(tmp_path, disk):
    """The reason is one line without a traceback."""
    supervised = Supervised(tmp_path, run_path=disk.path / "run")
    disk.fill()
    supervised.start()
    assert supervised.process.wait(30) == 1
    assert "No space left on device; make room, or choose another folder with --run-path" in supervised.err.read_text()
    assert "Traceback" not in supervised.err.read_text()


def test_logs_on_a_full_disk_cost_no_request_and_continue_when_there_is_room(tmp_path, disk):
    """Access log and metrics each report it once."""
    access, emf = disk.path / "access.log", disk.path / "emf.log"
    supervised = Supervised(tmp_path, access_log_path=access, emf_path=emf, emf_interval_s=0.1)
    write_tiny(supervised.dist / "tiny.pex", "tiny")
    with supervised:
        assert supervised.predictions("/tiny") == [6]
        supervised.until(lambda: access.stat().st_size and emf.stat().st_size)
        disk.fill()

        def both_say_so():
            assert supervised.predictions("/tiny") == [6]
            return says(supervised, f"cannot be written to {access}: No space") and says(
                supervised, f"cannot be written to {emf}: No space"
            )

        supervised.until(both_say_so)
        disk.empty()
        before = access.stat().st_size, emf.stat().st_size

        def both_go_on():
            assert supervised.predictions("/tiny") == [6]
            return access.stat().st_size > before[0] and emf.stat().st_size > before[1]

        supervised.until(both_go_on)
        assert supervised.err.read_text().count("cannot be written to") == 2


def test_a_supervisor_without_descriptors_restarts_processes_once_it_has_some(tmp_path):
    """It logs the reason, and retries after growing delays."""
    supervised = Supervised(tmp_path, restart_delay_max_s=1)
    write_tiny(supervised.dist / "tiny.pex", "tiny")
    with supervised:
        pid = supervised.process.pid
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        worker = supervised.release("tiny.pex")["worker_pids"][0]
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (8, before[1]))
        os.kill(worker, signal.SIGKILL)
        supervised.until(lambda: says(supervised, "cannot start a worker: [Errno 24] Too many open files; restarting in"))
        os.kill(supervised.state()["front_door_pids"][0], signal.SIGKILL)
        supervised.until(lambda: says(supervised, "cannot start front door: [Errno 24] Too many open files"))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        supervised.until(lambda: len(supervised.children()) == 2 and supervised.is_ready())
        assert supervised.predictions("/tiny") == [6]
