"""All that is known of one model, its processes included. Runs on the supervisor's loop, and reads /proc on a thread."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from packaging.utils import canonicalize_name

from base.ipc.control import EndpointSpec
from runtime.admin.api.context import AdminContext
from runtime.admin.schemas import EndpointDetail, ModelDetail, WorkerDetail
from runtime.blocking import BlockingThreads
from runtime.supervisor.releases.managed_release import ManagedRelease

_PSS = re.compile(rb"^Pss: +([0-9]+) kB$", re.MULTILINE)
_RSS = re.compile(rb"^Rss: +([0-9]+) kB$", re.MULTILINE)


async def describe_model(powers: AdminContext, model: str, threads: BlockingThreads) -> ModelDetail:
    """The model by any spelling of its name.

    Raises:
        NotFound: there is none.
    """
    report = powers.model_report(model)
    lives = powers.fleet.lives(report.name)
    serving = powers.fleet.serving(model)
    words = serving.release.spec if serving is not None else None
    workers = [worker for live in lives for worker in _workers(live)]
    measured = await threads.run(lambda: _measured(workers))
    releases = [found for found in powers.state().releases if found.kind == "model" and canonicalize_name(found.name) == report.name]
    return ModelDetail(report, releases, [_endpoint(each) for each in words.endpoints] if words else [], measured)


def _workers(live: ManagedRelease) -> Iterable[WorkerDetail]:
    identity = live.release.identity
    version = identity.version if identity else ""
    for worker in live.workers:
        yield WorkerDetail(version, worker.pid, str(worker.state), worker.restarts)


def _measured(workers: Iterable[WorkerDetail]) -> list[WorkerDetail]:
    return [_with_memory(worker) for worker in workers]


def _with_memory(worker: WorkerDetail) -> WorkerDetail:
    """With its memory: its own, and its share of what it has in common with others. 0 where there is no process."""
    try:
        text = Path(f"/proc/{worker.pid}/smaps_rollup").read_bytes()
    except OSError:  # none, or it ended just now
        return worker
    pss, rss = _PSS.search(text), _RSS.search(text)
    kb = [int(found[1]) * 1024 if found else 0 for found in (pss, rss)]
    return WorkerDetail(worker.version, worker.pid, worker.state, worker.restarts, *kb)


def _endpoint(words: EndpointSpec) -> EndpointDetail:
    return EndpointDetail(
        name=words.name,
        path=words.path,
        text=words.docs.description,
        parameters=words.parameters,
        batch_max_rows=words.batch_max_rows,
        batch_max_delay_ms=words.batch_max_delay_ms,
        input_schema=words.input_schema,
        output_schema=words.output_schema,
    )
