"""A real supervisor with real front doors and workers: new pexes serve, crashed processes come back, errors are named."""

import contextlib
import os
import signal
import subprocess
import threading

import httpx
import pytest

from supervisor_harness import Supervised, open_files, runs
from tinypex import SDK_VERSION, times, write_tiny
from waiting import until

SLOW = """
    import sys, time
    import polars as pl
    import base.service as svc

    @svc.endpoint(path="/slow")
    def predict(records_df: pl.DataFrame):
        print("it takes", records_df["x"][0], "s", file=sys.stderr, flush=True)
        time.sleep(records_df["x"][0])
        return records_df["x"]
"""


@pytest.fixture
def supervised(tmp_path):
    return Supervised(tmp_path)


def test_a_new_pex_serves_within_seconds_and_a_newer_version_takes_over_without_losing_requests(supervised):
    """Every request during the change is answered by one of the two, and the old worker ends."""
    answers = []
    over = threading.Event()

    def keep_asking():
        while not over.is_set():
            answers.append(supervised.predictions("/tiny"))

    with supervised:
        write_tiny(supervised.dist / "tiny-0.9.0.pex", "tiny", "0.9.0")
        old = supervised.until_state("tiny-0.9.0.pex", "ready")
        supervised.until(lambda: supervised.predictions("/tiny") == [6])
        asking = threading.Thread(target=keep_asking)
        asking.start()
        write_tiny(supervised.dist / "tiny-0.10.0.pex", "tiny", "0.10.0", times(10, "/tiny"))
        supervised.until_state("tiny-0.10.0.pex", "ready")
        supervised.until_state("tiny-0.9.0.pex", "standby")
        over.set()
        asking.join()
        assert supervised.predictions("/tiny") == [30]
        until(lambda: not runs(old["worker_pids"][0]))
    assert [6] in answers
    assert all(answer in ([6], [30]) for answer in answers)
    assert answers == sorted(answers)


def test_models_shows_what_is_wrong_with_a_pex_and_everything_else_serves(supervised):
    """At the start there is a pex for each kind of error. The last log lines of its worker are shown if there was one."""
    dist = supervised.dist
    write_tiny(dist / "good.pex", "good")
    whole = write_tiny(dist / "cut.pex", "cut").read_bytes()
    (dist / "cut.pex").write_bytes(whole[: len(whole) // 2])
    (dist / "text.pex").write_text("hello")
    (dist / "unfinished.pex.part").write_text("hello")
    write_tiny(dist / "raises.pex", "raises", module='print("so far so good", flush=True)\nimport no_such_module')
    write_tiny(dist / "exits.pex", "exits", module='import os\nprint("farewell", flush=True)\nos._exit(3)')
    write_tiny(dist / "nothing.pex", "nothing", endpoint=False)
    write_tiny(dist / "baseless.pex", "baseless", built_on="7.7.7")
    write_tiny(dist / "later.pex", "later", module=times(3, "/{anything}/else"))
    os.utime(dist / "later.pex", (2e9, 2e9))
    write_tiny(dist / "first.pex", "first", module=times(3, "/{what}/else"))
    write_tiny(dist / "zz-double.pex", "good", module=times(7, "/good"))
    os.utime(dist / "zz-double.pex", (2e9, 2e9))
    with supervised:
        supervised.until(lambda: supervised.release("later.pex")["state"] == "refused")
        supervised.until(lambda: supervised.release("exits.pex")["restarts"] > 0)
        assert supervised.predictions("/good") == [6]
        assert supervised.predictions("/a/else") == [9]
        printed = subprocess.run(
            supervised.command("models"), env=supervised.environment, check=True, stdout=subprocess.PIPE, text=True
        ).stdout
        found = {each["file"]: each for each in supervised.state()["releases"]}
    refusals = {
        "cut.pex": "the zip is truncated",
        "text.pex": "it is not a zip file",
        "nothing.pex": "no distribution in it declares an entry point",
        "later.pex": "path /{anything}/else belongs to first 0.1.0 as /{what}/else, from first.pex",
        "zz-double.pex": "good 0.1.0 is served from good.pex, which has different content",
    }
    for file, reason in refusals.items():
        assert found[file]["state"] == "refused"
        assert found[file]["reason"].startswith(reason)
        assert reason in printed
    assert found["baseless.pex"]["state"] == "waiting"
    assert "base-7.7.7.pex, which is missing" in found["baseless.pex"]["reason"]
    assert found["raises.pex"]["state"] == "failed"
    assert "No module named 'no_such_module'" in found["raises.pex"]["reason"]
    assert "No module named 'no_such_module'" in found["raises.pex"]["log"][-1]
    assert found["exits.pex"]["state"] == "restarting"
    assert "exited with code 3" in found["exits.pex"]["reason"]
    assert found["exits.pex"]["log"] == ["farewell"]
    assert "| farewell" in printed
    assert "unfinished.pex.part" not in found
    shown = supervised.out.read_text()
    assert "good 0.1.0: POST /good" in shown
    assert "text.pex is refused: it is not a zip file" in shown


def test_the_printed_command_works_as_shown(supervised, tmp_path):
    """A shell runs it at the first attempt."""
    write_tiny(supervised.dist / "tiny.pex", "tiny")
    with supervised:
        supervised.until(lambda: "curl" in supervised.out.read_text())
        line = next(line for line in supervised.out.read_text().splitlines() if "curl" in line)
        command = line[line.index("curl") :]
        reply = subprocess.run(["/bin/sh", "-c", command], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
        assert '"predictions":[' in reply


def test_a_killed_worker_comes_back(supervised):
    """It is out of the table at once, so that requests fail fast instead of hanging; then it serves again."""
    write_tiny(supervised.dist / "tiny.pex", "tiny")
    supervised.settings["restart_delay_min_s"] = 2
    with supervised:
        assert supervised.predictions("/tiny") == [6]
        (pid,) = supervised.release("tiny.pex")["worker_pids"]
        os.kill(pid, signal.SIGKILL)
        supervised.until_state("tiny.pex", "restarting")
        assert supervised.predictions("/tiny") == [503]
        supervised.until(lambda: supervised.predictions("/tiny") == [6])
        after = supervised.release("tiny.pex")
        assert after["restarts"] == 1
        assert "killed by SIGKILL" in after["reason"]
        assert len(list(supervised.run_path.glob("w*.sock"))) == 1


def test_a_killed_front_door_comes_back_and_connections_wait_for_it(supervised):
    """The supervisor holds the socket, so nobody is refused meanwhile."""
    write_tiny(supervised.dist / "tiny.pex", "tiny")
    with supervised:
        (pid,) = supervised.state()["front_door_pids"]
        os.kill(pid, signal.SIGKILL)
        supervised.until(lambda: not runs(pid))
        assert supervised.predictions("/tiny") == [6]
        assert supervised.state()["front_door_pids"] != [pid]


def test_several_front_doors_share_the_port_and_a_killed_one_affects_no_other(supervised):
    """Each gets connections of its own, all send to the same worker, a new model serves at all of them, and all end together."""
    write_tiny(supervised.dist / "tiny.pex", "tiny")
    supervised.settings["front_doors"] = 2
    with supervised:
        first, second = pids = supervised.state()["front_door_pids"]
        children = supervised.children()
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(httpx.Client(base_url=supervised.state()["address"], timeout=20)) for _ in range(32)]
            before = {pid: sockets(pid) for pid in pids}
            assert [ask_tiny(client) for client in clients] == [[6]] * 32
            taken = {pid: sockets(pid) - before[pid] for pid in pids}
            assert sum(taken.values()) == 32
            assert all(taken.values()), taken
            os.kill(first, signal.SIGKILL)
            supervised.until(lambda: not runs(first))
            assert sum(ask_tiny(client) == [6] for client in clients) >= taken[second]
        assert [supervised.predictions("/tiny") for _ in range(16)] == [[6]] * 16
        supervised.until(lambda: len(supervised.state()["front_door_pids"]) == 2)
        write_tiny(supervised.dist / "later.pex", "later")
        supervised.until_state("later.pex", "ready")
        assert [supervised.predictions("/later") for _ in range(16)] == [[6]] * 16
        children += supervised.children()
    assert not [pid for pid in children if runs(pid)]


def test_clients_of_a_front_door_that_does_not_accept_are_answered_by_another(supervised):
    """It is stopped, or was killed and is restarted much later. Once it accepts again, it has its clients for itself."""
    write_tiny(supervised.dist / "tiny.pex", "tiny")
    supervised.settings |= {"front_doors": 2, "unresponsive_s": 0, "restart_delay_min_s": 3600, "restart_delay_max_s": 3600}
    with supervised:
        first, second = supervised.state()["front_door_pids"]
        os.kill(first, signal.SIGSTOP)
        assert [supervised.predictions("/tiny") for _ in range(16)] == [[6]] * 16
        os.kill(first, signal.SIGCONT)
        supervised.until(lambda: [door["state"] for door in supervised.state()["front_doors"]] == ["serving"] * 2)
        before = {pid: sockets(pid) for pid in (first, second)}
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(httpx.Client(base_url=supervised.state()["address"], timeout=20)) for _ in range(32)]
            assert [ask_tiny(client) for client in clients] == [[6]] * 32
            assert all(sockets(pid) > before[pid] for pid in (first, second))
        os.kill(second, signal.SIGKILL)
        assert [supervised.predictions("/tiny") for _ in range(16)] == [[6]] * 16
        assert supervised.state()["front_door_pids"] == [first]


def sockets(pid):
    """Returns the number of sockets that a process has open."""
    return sum(link.startswith("socket:") for link in open_files(pid))


def ask_tiny(client):
    """Sends a request over the client's connection; returns None if it is broken."""
    with contextlib.suppress(httpx.TransportError):
        return client.post("/tiny", json=[{"x": 3}]).json()["predictions"]


def test_sigterm_lets_a_request_in_flight_finish_and_leaves_nothing(supervised):
    """The exit code is 0, and no process, socket file or run directory is left."""
    write_tiny(supervised.dist / "slow.pex", "slow", module=SLOW)
    replies = []
    with supervised:
        asking = threading.Thread(target=lambda: replies.append(supervised.predictions("/slow", 2)))
        children = supervised.children()
        assert supervised.predictions("/slow", 0) == [0]
        asking.start()
        supervised.until(lambda: "it takes 2 s" in supervised.err.read_text())
        supervised.process.send_signal(signal.SIGTERM)
        assert supervised.process.wait(20) == 0
        asking.join()
    assert replies == [[2]]
    assert len(children) == 2
    assert not [pid for pid in children if runs(pid)]
    assert not supervised.run_path.exists()


def test_a_second_signal_ends_requests_at_once(supervised):
    """Whoever presses Ctrl-C twice does not want to wait for a request of a minute."""
    write_tiny(supervised.dist / "slow.pex", "slow", module=SLOW)
    supervised.settings["drain_s"] = 60
    with supervised:
        children = supervised.children()

        def ask():
            with contextlib.suppress(Exception):  # the answer never comes
                supervised.ask("/slow", 50)

        asking = threading.Thread(target=ask)
        asking.start()
        supervised.until(lambda: "it takes 50 s" in supervised.err.read_text())
        supervised.process.send_signal(signal.SIGINT)
        supervised.until(lambda: "SIGINT: shutting down" in supervised.err.read_text())
        with pytest.raises(subprocess.TimeoutExpired):
            supervised.process.wait(1.5)
        supervised.process.send_signal(signal.SIGINT)
        assert supervised.process.wait(20) == 0
        asking.join()
    assert not [pid for pid in children if runs(pid)]
    assert not supervised.run_path.exists()


def test_children_of_a_killed_supervisor_end_by_themselves_and_the_next_one_starts(supervised):
    """They notice that their control sockets are closed."""
    write_tiny(supervised.dist / "tiny.pex", "tiny")
    with supervised:
        children = supervised.children()
        supervised.process.kill()
        supervised.process.wait()
        until(lambda: not any(map(runs, children)), "orphans")
    assert (supervised.run_path / "state.json").exists()
    with supervised:
        assert supervised.predictions("/tiny") == [6]


FORKS = """
    import subprocess, sys
    import polars as pl
    import base.service as svc

    @svc.endpoint(path="/forks")
    def predict(records_df: pl.DataFrame):
        started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        return [started.pid] * records_df.height
"""


@pytest.mark.parametrize("killed", ["supervisor", "worker"])
def test_a_process_that_a_handler_started_ends_with_its_worker_and_with_a_killed_supervisor(supervised, killed):
    """It is in the worker's process group, which the supervisor kills, or a front door if the supervisor is gone."""
    write_tiny(supervised.dist / "forks.pex", "forks", module=FORKS)
    with supervised:
        [started] = supervised.predictions("/forks")
        assert runs(started)
        pid = supervised.process.pid if killed == "supervisor" else supervised.release("forks.pex")["worker_pids"][0]
        os.kill(pid, signal.SIGKILL)
        until(lambda: not runs(started), "an orphan")
    if killed == "supervisor":
        with supervised:  # which removes what the first one left
            assert runs(supervised.predictions("/forks")[0])


def test_a_second_supervisor_on_one_run_directory_or_port_is_refused(supervised, tmp_path):
    """One line names the first one, the exit code is 1, and the first keeps serving."""
    write_tiny(supervised.dist / "tiny.pex", "tiny")
    with supervised:
        again = subprocess.run(supervised.command("serve"), env=supervised.environment, check=False, stderr=subprocess.PIPE, text=True)
        assert again.returncode == 1
        assert f"pexdock: another supervisor (pid {supervised.process.pid}) runs on {supervised.run_path}" in again.stderr
        port = supervised.state()["address"].rpartition(":")[2]
        elsewhere = supervised.environment | {"PEXDOCK_RUN_PATH": str(tmp_path / "run2"), "PEXDOCK_PORT": port}
        again = subprocess.run(supervised.command("serve"), env=elsewhere, check=False, stderr=subprocess.PIPE, text=True)
        assert again.returncode == 1
        assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" in again.stderr
        assert again.stderr.count("\n") == 1
        assert not (tmp_path / "run2").exists()
        assert supervised.predictions("/tiny") == [6]


def test_a_release_whose_file_vanishes_or_is_damaged_keeps_serving_until_a_good_one_replaces_it(supervised):
    """It runs from a copy, so nothing that happens to the file reaches it."""
    path = write_tiny(supervised.dist / "tiny.pex", "tiny")
    with supervised:
        path.write_bytes(b"spoilt")
        supervised.until_state("tiny.pex", "refused")
        supervised.until(lambda: "it serves until" in str(supervised.until_state("tiny.pex", "ready")["warnings"]))
        assert supervised.predictions("/tiny") == [6]
        path.unlink()
        supervised.until(lambda: [each["state"] for each in supervised.releases("tiny.pex")] == ["ready"])
        assert supervised.predictions("/tiny") == [6]
        write_tiny(path, "tiny", module=times(5, "/tiny"))
        supervised.until(lambda: supervised.predictions("/tiny") == [15])
        supervised.until(lambda: [each["state"] for each in supervised.releases("tiny.pex")] == ["standby", "ready"])


def test_a_model_that_waits_for_its_base_starts_when_the_base_arrives(supervised):
    """The order of the files does not matter."""
    (supervised.dist / "base.pex").rename(supervised.dist / "base.pex.away")
    write_tiny(supervised.dist / "tiny.pex", "tiny", built_on=SDK_VERSION)
    with supervised:
        assert supervised.release("tiny.pex")["state"] == "waiting"
        (supervised.dist / "base.pex.away").rename(supervised.dist / "base.pex")
        supervised.until_state("tiny.pex", "ready")
        assert supervised.predictions("/tiny") == [6]
