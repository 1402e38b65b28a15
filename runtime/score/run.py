"""Puts a run together: finds the files, prepares and starts the model on this machine, and scores."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import uvloop

from base.errors import Conflict
from runtime.pex.cache.store import PexCache
from runtime.score.driver import Driver, DriverLimits
from runtime.score.journal import REFUSED, Journal, PartRecord, Plan, PlannedInput
from runtime.score.places import InputFile, file_name, find_inputs, open_output
from runtime.score.prepared_model import PreparedModel, prepare_model
from runtime.score.readers import ReadLimits, reader_kind
from runtime.score.results import Output
from runtime.score.single_file import SingleFile
from runtime.score.workers import LocalWorkers
from runtime.settings import Settings
from runtime.supervisor.host.run_dir import RunDir, RunDirTaken, find_supervisor_pid, lock_run_dir
from runtime.supervisor.host.spawner import spawner
from runtime.supervisor.processes.sandbox import scratch_root


@dataclass(frozen=True)
class ScoreOrder:
    """The files, the model and the output of a run.

    Attributes:
        model: The pex of the model.
        base: The pex of its base; None for the one beside it, or in dist/.
        endpoint: Name or path of the endpoint; None for the only one.
        inputs: Patterns of the input files.
        output: Folder of the results, perhaps with the ending of the files in it.
        parameters: Names and values of the parameters of path and query.
        workers: Number of workers.
        row_column: Column of the results with the number of the row in its file; empty for none.
    """

    model: Path
    base: Path | None
    endpoint: str | None
    inputs: Sequence[str]
    output: str
    parameters: Sequence[tuple[str, str]]
    workers: int
    row_column: str = ""


class Totals(NamedTuple):
    """The outcome of a run, and of those that it continued.

    Attributes:
        rows: Rows of the files.
        results: Rows of the results.
        refused: Rows that were refused.
        failed: Rows among them for which the model failed.
        refusals: The file of refused rows.
        computed: Whether this run has computed any of it.
    """

    rows: int
    results: int
    refused: int
    failed: int
    refusals: str
    computed: bool


Progress = Callable[[float, int, int], None]
"""Takes the bytes of the files that were just read, and the numbers of rows and of refused rows in them."""


def score_files(order: ScoreOrder, settings: Settings, on_begin: Callable[[int, int], Progress], show: Callable[[str], None]) -> Totals:
    """Scores files, or continues a run that has ended early.

    Args:
        order: What is to be scored.
        settings: All settings.
        on_begin: Called with the number of files and of their bytes; returns what takes the progress.
        show: Shows a line of progress.

    Raises:
        PexdockError: The run has ended early, and can be continued.
        OSError: As above.
        KeyboardInterrupt: SIGINT or SIGTERM has ended it; likewise.
    """
    inputs = [file for pattern in order.inputs for file in find_inputs(pattern)]
    target = Output.parse(order.output)
    _check_inputs(inputs)
    spawner()  # before files are opened
    with _lock_output(target.folder) as run_dir, scratch_root(run_dir.path / "scratch", shared=settings.worker_user is not None) as scratch:
        output = open_output(target.folder, scratch)
        store = PexCache(settings.cache_path, show)
        try:
            model = prepare_model(order.model, order.base, settings, store, run_dir, scratch)
            journal = Journal(output)
            plan, limits = _plan(model, order, settings, target.ending, inputs), _driver_limits(order, settings)
            journal.check(plan)
            single = SingleFile(target, output) if target.file else None
            if single is not None:
                single.require_absent(journal)

            def make_driver(workers: LocalWorkers) -> Driver:
                journal.begin(plan)
                progress = on_begin(len(inputs), sum(file.size for file in inputs))
                return Driver(workers, journal, inputs, target.part_ending, limits, progress)

            records = uvloop.run(_run(order, settings, model, make_driver))
            if single is not None:
                single.write(records)
            rows, results, refused, failed = (sum(getattr(each, name) for each in records) for name in Totals._fields[:4])
            return Totals(rows, results, refused, failed, f"{target.file or f'{target.folder}/'}{REFUSED}", journal.has_added)
        except asyncio.CancelledError:  # by SIGTERM
            raise KeyboardInterrupt from None
        finally:
            store.close()
            with contextlib.suppress(OSError):  # unless there are results
                output.aside.rmdir()
                output.aside.parent.rmdir()


async def _run(
    order: ScoreOrder, settings: Settings, model: PreparedModel, make_driver: Callable[[LocalWorkers], Driver]
) -> list[PartRecord]:
    workers = LocalWorkers(model.template, model.pex, model.sha256, order.workers, settings)
    own = asyncio.current_task()
    assert own is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, own.cancel)
    try:
        await workers.start()
        await workers.choose(order.endpoint, order.parameters)
        driving = asyncio.create_task(make_driver(workers).run())
        workers.broken.add_done_callback(lambda _: driving.cancel())
        try:
            return await driving
        except asyncio.CancelledError:
            if workers.broken.done():
                raise workers.broken.result() from None
            raise
    finally:
        await workers.stop()


def _plan(model: PreparedModel, order: ScoreOrder, settings: Settings, ending: str, inputs: Sequence[InputFile]) -> Plan:
    """Returns everything that the results depend on."""
    return Plan(
        f"{model.pex.name} {model.pex.version} {model.sha256}",
        f"{model.base.version} {model.base.sha256}",
        order.endpoint or "",
        list(order.parameters),
        ending,
        {
            "batch_rows": settings.score_batch_rows,
            "batch_max_bytes": int(settings.score_batch_max_bytes),
            "part_rows": settings.score_part_rows,
            "row_column": order.row_column,
        },
        [PlannedInput(file.name, file.size, file.stamp) for file in inputs],
    )


def _driver_limits(order: ScoreOrder, settings: Settings) -> DriverLimits:
    read = ReadLimits(settings.score_batch_rows, int(settings.score_batch_max_bytes), settings.score_part_rows)
    return DriverLimits(read, int(settings.score_memory_max_bytes), settings.score_refused_max_rows, order.row_column)


def _check_inputs(inputs: Sequence[InputFile]) -> None:
    """Raises PexdockError if a file has another format, or if two files would have one result."""
    for file in inputs:
        reader_kind(file)
    names = Counter(file_name(file.relative, 0, "") for file in inputs)
    name, times = names.most_common(1)[0]
    if times > 1:
        alike = [file.name for file in inputs if file_name(file.relative, 0, "") == name]
        if len(set(alike)) == 1:
            raise Conflict(f"{alike[0]} is named by more than one input; name it once")
        raise Conflict(f"{' and '.join(alike[:2])} would have results of the same name; score them into different outputs")


@contextlib.contextmanager
def _lock_output(folder: str) -> Iterator[RunDir]:
    """Yields the run directory of this output, which no other process of this user on this machine uses.

    Raises:
        Conflict: Another process scores into the output, or there is no room for temporary files.
    """
    is_local = "://" not in folder
    place = str(Path(folder).resolve()) if is_local else folder
    name = f"pexdock-score-{os.getuid()}-{hashlib.sha256(os.fsencode(place)).hexdigest()[:12]}"
    path = Path(tempfile.gettempdir()) / name
    with contextlib.ExitStack() as stack:
        try:
            run_dir = stack.enter_context(lock_run_dir(path))
        except RunDirTaken as exc:
            if find_supervisor_pid(path) is not None:
                raise Conflict(f"another process {_SCORES_INTO} {folder}") from exc
            raise Conflict(f"{exc.detail.partition(';')[0]}; set TMPDIR to another folder") from exc
        if is_local:
            stack.enter_context(_lock_folder(Path(place)))
        yield run_dir


_SCORES_INTO = "scores into the same output; wait until it has ended, or name another one:"


@contextlib.contextmanager
def _lock_folder(folder: Path) -> Iterator[None]:
    """Locks a folder itself, since other processes may have other folders for temporary files, or belong to other users.

    Raises:
        Conflict: It cannot be made, or another process has locked it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise Conflict(f"the output {folder} cannot be made: {exc.strerror}; name another one") from exc
    try:
        with contextlib.suppress(OSError):  # some network file systems cannot lock folders
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                raise Conflict(f"another process {_SCORES_INTO} {folder}") from exc
        yield
    finally:
        os.close(descriptor)
