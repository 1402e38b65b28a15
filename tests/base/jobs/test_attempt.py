"""What the handler of a job may do through its context: report progress, and store checkpoints that survive any fault."""

import math
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from base.endpoint.context import Context
from base.endpoint.describe import describe_endpoint
from base.endpoint.endpoint import endpoint
from base.errors import Declaration
from base.jobs.attempt import MESSAGE_MAX_CHARACTERS, JobAttempt, Progress


def attempt(folder: Path, number: int = 1) -> tuple[Context, list[Progress]]:
    reports: list[Progress] = []
    return Context(_job=JobAttempt(folder, number, reports.append)), reports


def test_without_a_job_nothing_happens(tmp_path: Path) -> None:
    """The same handler serves requests and jobs."""
    context = Context()
    context.progress(0.5, "half")
    context.checkpoint(tmp_path / "missing")
    assert (context.is_job, context.attempt, context.checkpoint_path) == (False, 1, None)


def test_progress_is_reported_within_its_bounds(tmp_path: Path) -> None:
    """A fraction outside is moved to the nearer end, NaN is unknown, and a long message is cut: a report must not end a job."""
    context, reports = attempt(tmp_path, 3)
    context.progress(0.25, "a quarter")
    context.progress(-1)
    context.progress(7.5)
    context.progress(math.nan)
    context.progress(None, "x" * 5000)
    assert reports == [
        Progress(0.25, "a quarter"),
        Progress(0.0),
        Progress(1.0),
        Progress(None),
        Progress(None, "x" * MESSAGE_MAX_CHARACTERS),
    ]
    assert (context.is_job, context.attempt) == (True, 3)


def test_a_handler_that_reports_without_end_fills_no_socket(tmp_path: Path) -> None:
    """After a burst only some reports are sent, and always the one that says that all is done."""
    context, reports = attempt(tmp_path)
    for i in range(100_000):
        context.progress(i / 100_000)
    context.progress(1.0, "done")
    assert len(reports) < 2_000
    assert reports[-1] == Progress(1.0, "done")


def test_the_newest_checkpoint_is_found_by_the_next_attempt(tmp_path: Path) -> None:
    """It is a copy, so the handler may go on with its own file. Files and folders may take turns, and only the newest is kept."""
    folder, own = tmp_path / "checkpoint", tmp_path / "own"
    folder.mkdir()
    context, _ = attempt(folder)
    assert context.checkpoint_path is None
    own.write_text("first")
    context.checkpoint(own)
    own.write_text("changed")
    again, _ = attempt(folder, 2)
    assert again.checkpoint_path is not None
    assert again.checkpoint_path.read_text() == "first"
    parts = tmp_path / "parts"
    (parts / "deep").mkdir(parents=True)
    (parts / "deep" / "fit.json").write_text("{}")
    again.checkpoint(str(parts))
    third, _ = attempt(folder, 3)
    assert third.checkpoint_path is not None
    assert (third.checkpoint_path / "deep" / "fit.json").read_text() == "{}"
    assert len(list(folder.iterdir())) == 1


def test_a_checkpoint_that_fails_leaves_the_one_before(tmp_path: Path) -> None:
    """The author gets the reason, and nothing unfinished is taken for a checkpoint."""
    folder, own = tmp_path / "checkpoint", tmp_path / "own"
    folder.mkdir()
    own.write_text("kept")
    context, _ = attempt(folder)
    context.checkpoint(own)
    with pytest.raises(OSError, match="nothing here"):
        context.checkpoint(tmp_path / "nothing here")
    (folder / ".2").write_text("half of a copy")
    assert context.checkpoint_path is not None
    assert context.checkpoint_path.read_text() == "kept"
    own.write_text("next")
    context.checkpoint(own)
    assert context.checkpoint_path.read_text() == "next"
    assert [each.name for each in folder.iterdir()] == ["2"]


KILLED = """
import sys, os, threading
from pathlib import Path
from base.jobs.attempt import JobAttempt
folder, own = Path(sys.argv[1]), Path(sys.argv[2])
attempt = JobAttempt(folder, 1, print)
for i in range(10_000):
    own.write_text(f"{i}," * 20_000)
    attempt.store_checkpoint(own)
    os.write(1, b".")
"""


def test_a_kill_at_any_time_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    """What the next attempt finds was written by one call, from its first byte to its last."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for stores in range(1, 9):
        process = subprocess.Popen([sys.executable, "-c", KILLED, folder, tmp_path / "own"], stdout=subprocess.PIPE)
        assert process.stdout is not None
        for _ in range(stores):
            assert os.read(process.stdout.fileno(), 1)
        process.kill()
        process.wait()
        process.stdout.close()
        found = attempt(folder)[0].checkpoint_path
        assert found is not None
        parts = found.read_text().split(",")
        assert len(set(parts[:-1])) == 1
        assert len(parts) == 20_001


def test_an_endpoint_is_declared_as_a_job() -> None:
    """The front door learns of it, and another value than True or False is refused."""

    def fit(records_df: pl.DataFrame) -> pl.DataFrame:
        return records_df

    assert describe_endpoint(endpoint("/fit", job=True)(fit)).job
    with pytest.raises(Declaration, match="job is 'yes'; use True or False"):
        endpoint("/fit", job="yes")(fit)  # type: ignore[arg-type]
