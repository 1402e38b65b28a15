"""Starts a worker of a model once, on this machine, to find out whether it becomes ready: `pexdock check --run`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import uvloop

from runtime.pex.cache.store import PexCache
from runtime.score.prepared_model import PreparedModel, prepare_model
from runtime.score.workers import LocalWorkers
from runtime.settings import Settings
from runtime.supervisor.host.run_dir import lock_run_dir
from runtime.supervisor.host.spawner import spawner
from runtime.supervisor.processes.sandbox import scratch_root


def start_once(path: Path, base_path: Path | None, settings: Settings, show: Callable[[str], None]) -> list[str]:
    """Starts a worker of a model as the supervisor does, warm-up included, and stops it.

    Args:
        path: The pex of the model.
        base_path: The pex of its base; None for the one beside it, or in dist/.
        settings: All settings.
        show: Shows a line of progress.

    Returns:
        The warnings of the worker.

    Raises:
        PexdockError: The model cannot run, or its worker does not become ready.
    """
    spawner()  # before files are opened
    with (
        tempfile.TemporaryDirectory(prefix="pexdock-check-") as folder,
        lock_run_dir(Path(folder)) as run_dir,
        scratch_root(Path(folder) / "scratch", shared=settings.worker_user is not None) as scratch,
    ):
        store = PexCache(settings.cache_path, show)
        try:
            return uvloop.run(_start(prepare_model(path, base_path, settings, store, run_dir, scratch), settings))
        finally:
            store.close()


async def _start(model: PreparedModel, settings: Settings) -> list[str]:
    workers = LocalWorkers(model.template, model.pex, model.sha256, 1, settings)
    try:
        await workers.start()
        return workers.warnings
    finally:
        await workers.stop()
