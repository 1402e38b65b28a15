"""One worker, as far as it needs no process."""

import asyncio
from pathlib import Path
from types import SimpleNamespace

from base.backoff import Backoff
from runtime.supervisor.processes.sandbox import Sandbox
from runtime.supervisor.processes.start_limiter import StartLimiter
from runtime.supervisor.processes.worker import WorkerProcess
from runtime.supervisor.processes.worker_run import WorkerTemplate
from runtime.supervisor.processes.worker_state import WorkerState


def test_a_worker_that_is_retired_while_it_waits_for_a_start_slot_stops(tmp_path: Path):
    """Otherwise its release would never be removed."""

    async def run() -> None:
        limiter, stopped = StartLimiter(1), asyncio.Event()
        taken = limiter.request_slot("other", lambda: None)
        owner = SimpleNamespace(loaded=False, changed=lambda: stopped.set() if worker.state is WorkerState.STOPPED else None)
        template = WorkerTemplate(
            "tiny 0.1.0", "tiny", [], {}, tmp_path, 60.0, 8.0, Backoff(1.0, 60.0), lambda _: None, limiter, 0, Sandbox(tmp_path), 0.0
        )
        worker = WorkerProcess(template, owner)
        worker.start()
        worker.retire(1)
        assert worker.state is WorkerState.STOPPING
        await asyncio.wait_for(stopped.wait(), 5)
        taken.release()

    asyncio.run(run())
