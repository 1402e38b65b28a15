"""The file that takes lines of metrics, and what happens if it cannot."""

import fcntl
import os
import shutil
import subprocess
import sys
import threading
import time

import pytest

from base.ipc.metrics_report import MetricsReport, ValueSummary
from base.telemetry.emf import Emf
from base.telemetry.emf_writer import EmfWriter
from emf import Totals, checked
from waiting import until

WITHIN_S = 10
LATENCY = ValueSummary(100, 100.0, 1.0, 1.0, [1.0] * 100)


def report(count=1, latency=LATENCY):
    return MetricsReport(int(time.time() * 1000), "iris", "1.0", "predict", {"Requests": count}, {"Latency": latency})


def requests(path):
    return Totals.of(path).counts["iris", "predict"]["Requests"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.log"


def test_lines_are_log_to_what_is_there(path):
    """A restart must not lose what the one before has written."""
    for _ in range(2):
        with EmfWriter(Emf(path)) as log:
            log.write_report(report(3))
            log.write_report(report(4))
    assert requests(path) == 14
    assert len(Totals.of(path).documents) == 4


def test_a_renamed_or_removed_file_is_created_again(path):
    """Log rotation works this way, without a signal."""
    moved = path.with_suffix(".1")
    with EmfWriter(Emf(path)) as log:
        log.write_report(report(1))
        until(lambda: requests(path) == 1)
        path.rename(moved)
        log.write_report(report(2))
        until(lambda: requests(path) == 2)
        path.unlink()
        log.write_report(report(3))
        until(lambda: requests(path) == 3)
    assert requests(moved) == 1


def test_a_folder_that_is_removed_is_made_again(tmp_path, caplog):
    """The report that finds it missing is written, too."""
    path = tmp_path / "logs" / "metrics.log"
    path.parent.mkdir()
    with EmfWriter(Emf(path)) as log:
        log.write_report(report(5))
        until(lambda: requests(path) == 5)
        shutil.rmtree(path.parent)
        log.write_report(report(7))
        until(lambda: requests(path) == 7)
    assert [record.getMessage() for record in caplog.records] == [f"{path.parent} was removed and has been made again for metrics"]


def test_a_folder_that_cannot_be_made_is_logged_once_and_may_come_back(tmp_path, caplog):
    """Nothing is raised while requests are served, and the log is not flooded. The next failure is logged again."""
    folder = tmp_path / "logs"
    folder.mkdir()
    path = folder / "metrics.log"
    with EmfWriter(Emf(path)) as log:
        for outage in (1, 2):
            log.write_report(report(5))
            until(lambda: requests(path) >= 5)
            shutil.rmtree(folder)
            folder.touch()
            log.write_report(report())
            log.write_report(report())
            until(lambda outage=outage: len(caplog.records) == outage)
            folder.unlink()
            folder.mkdir()
    said = f"metrics cannot be written to {path}: Not a directory; correct this, or change the path of Emf"
    assert [record.getMessage() for record in caplog.records] == [said] * 2


def test_a_wrong_path_is_logged_at_once(tmp_path, caplog):
    """It is not only logged at the first request."""
    with EmfWriter(Emf(tmp_path / "missing" / "metrics.log")):
        until(lambda: caplog.records)
    assert "No such file or directory" in caplog.text


def test_a_full_disk_is_logged_once(caplog):
    """/dev/full behaves like one."""
    with EmfWriter(Emf("/dev/full")) as log:
        log.write_report(report())
        log.reopen()
        log.write_report(report())
    assert caplog.text.count("No space left on device") == 1


def test_an_incomplete_line_does_not_spoil_the_next(tmp_path):
    """If a disk fills up within a line, the next begins on a line of its own. Here a file size limit stands for the disk."""
    path = tmp_path / "metrics.log"
    program = f"""
import resource, signal, sys, time
sys.path[:0] = {sys.path!r}
from base.telemetry.emf import Emf, emf_lines
from base.telemetry.emf_writer import EmfWriter
from test_emf_writer import report, until
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
whole = len(next(emf_lines(report(1), "Pexdock")))
resource.setrlimit(resource.RLIMIT_FSIZE, (whole + 100, resource.RLIM_INFINITY))
with EmfWriter(Emf({str(path)!r})) as log:
    log.write_report(report(1))
    log.write_report(report(2))
    until(lambda: log._log._failing)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    log.write_report(report(4))
"""
    environment = os.environ | {"PYTHONPATH": os.path.dirname(__file__)}  # noqa: PTH120
    done = subprocess.run([sys.executable, "-c", program], env=environment, stderr=subprocess.PIPE, text=True, timeout=WITHIN_S)
    assert done.returncode == 0, done.stderr
    first, cut, last = path.read_bytes().splitlines(keepends=True)
    assert checked(first)["Requests"] == 1
    assert len(cut) == 101
    assert checked(last)["Requests"] == 4
    assert done.stderr.count("File too large") == 1


@pytest.mark.parametrize("blocking", [True, False])
def test_a_reader_that_stops_delays_nobody_and_costs_bounded_memory(tmp_path, caplog, monkeypatch, blocking):
    """Blocking writes wait on a thread of their own; dropped lines are logged once. Then writing continues in whole lines."""
    monkeypatch.setattr("base.telemetry.emf_writer._QUEUED_VALUES_MAX", 64 * 200)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    found = []

    def read_all():
        with os.fdopen(reader, "rb") as file:
            found.extend(file)

    with EmfWriter(Emf(fifo)) as log:
        log.write_report(report())
        until(lambda: log._log._fd >= 0)
        if not blocking:
            fcntl.fcntl(log._log._fd, fcntl.F_SETFL, fcntl.fcntl(log._log._fd, fcntl.F_GETFL) | os.O_NONBLOCK)
        for _ in range(500):
            log.write_report(report())
        assert len(log._log._queue) == 64
        assert caplog.text.count("metrics are dropped") == 1
        os.set_blocking(reader, True)
        reading = threading.Thread(target=read_all)
        reading.start()
        until(lambda: not log._log._queue)
        log.write_report(report(77))
    reading.join(WITHIN_S)
    assert 64 < len(found) < 400
    assert [checked(line)["Requests"] for line in found] == [1] * (len(found) - 1) + [77]


def run_with_stdout(program, **kwargs):
    """Starts a process that writes metrics to its standard output."""
    program = f"import sys\nsys.path[:0] = {sys.path!r}\nfrom test_emf_writer import *\n{program}"
    environment = os.environ | {"PYTHONPATH": os.path.dirname(__file__)}  # noqa: PTH120
    return subprocess.Popen([sys.executable, "-c", program], env=environment, stderr=subprocess.PIPE, text=False, **kwargs)


def test_the_standard_output_takes_lines_too():
    """Containers collect logs there."""
    with run_with_stdout("with EmfWriter(Emf('-')) as log:\n log.write_report(report(3))", stdout=subprocess.PIPE) as process:
        out, err = process.communicate(timeout=WITHIN_S)
    assert (checked(out)["Requests"], err, process.returncode) == (3, b"", 0)


def test_a_standard_output_without_a_reader_is_logged_once():
    """The writer goes on, as serving does."""
    program = "with EmfWriter(Emf('-')) as log:\n for _ in range(3):\n  log.write_report(report())"
    ours, theirs = os.pipe()
    os.close(ours)
    with run_with_stdout(program, stdout=theirs) as process:
        os.close(theirs)
        _, err = process.communicate(timeout=WITHIN_S)
    said = b"metrics cannot be written to the standard output: Broken pipe; correct this, or change the path of Emf"
    assert (err.splitlines(), process.returncode) == ([said], 0)


def test_a_closed_standard_output_is_never_mistaken_for_another_file(tmp_path):
    """The first file that such a process opens gets its number."""
    program = f"mine = open({str(tmp_path / 'mine')!r}, 'w')\nwith EmfWriter(Emf('-')) as log:\n log.write_report(report())"
    with run_with_stdout(program, preexec_fn=lambda: os.close(1)) as process:
        _, err = process.communicate(timeout=WITHIN_S)
    said = b"metrics cannot be written to the standard output: Bad file descriptor; correct this, or change the path of Emf"
    assert (err.splitlines(), process.returncode) == ([said], 0)
    assert (tmp_path / "mine").read_bytes() == b""


def test_disabled_metrics_start_no_thread_and_open_no_file():
    """What is off costs nothing."""
    before = threading.active_count()
    with EmfWriter(None) as log:
        log.write_report(report())
        log.reopen()
        assert threading.active_count() == before
