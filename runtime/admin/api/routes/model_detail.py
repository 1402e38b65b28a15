"""Everything that is known about one model, including its worker processes. Runs on the supervisor's loop, and reads /proc on a thread."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from msgspec.structs import replace
from packaging.utils import canonicalize_name

from base.ipc.release_spec import EndpointSpec
from runtime.admin.api.context import AdminContext
from runtime.admin.schemas import EndpointDetail, ModelDetail, WorkerDetail
from runtime.blocking import BlockingThreads
from runtime.supervisor.releases.managed_release import ManagedRelease

_PSS = re.compile(rb"^Pss: +([0-9]+) kB$", re.MULTILINE)
_RSS = re.compile(rb"^Rss: +([0-9]+) kB$", re.MULTILINE)


async def describe_model(context: AdminContext, model: str, threads: BlockingThreads) -> ModelDetail:
    """Returns the details of a model, by any spelling of its name.

    Raises:
        NotFound: The model does not exist.
    """
    report = context.model_report(model)
    serving = context.fleet.serving_release(model)
    spec = serving.release.spec if serving is not None else None
    workers = [worker for managed in context.fleet.releases.of_model(report.name) for worker in _workers(managed)]
    measured = await threads.run(lambda: [_with_memory(worker) for worker in workers])
    releases = [found for found in context.state().releases if found.kind == "model" and canonicalize_name(found.name) == report.name]
    return ModelDetail(report, releases, [endpoint_detail(each) for each in spec.endpoints] if spec else [], measured)


def _workers(managed: ManagedRelease) -> Iterable[WorkerDetail]:
    identity = managed.release.identity
    version = identity.version if identity else ""
    for workers in (managed.workers, managed.job_workers):
        for worker in workers.processes:
            runs_jobs = workers is managed.job_workers
            yield WorkerDetail(version, worker.pid, str(worker.state), worker.restarts, runs_jobs=runs_jobs)


def _with_memory(worker: WorkerDetail) -> WorkerDetail:
    """Returns the worker with its memory, PSS and RSS; both stay 0 if it has no process."""
    try:
        text = Path(f"/proc/{worker.pid}/smaps_rollup").read_bytes()
    except OSError:  # there is no process, or it has just exited
        return worker
    pss, rss = _PSS.search(text), _RSS.search(text)
    sizes_bytes = [int(found[1]) * 1024 if found else 0 for found in (pss, rss)]
    return replace(worker, pss_bytes=sizes_bytes[0], rss_bytes=sizes_bytes[1])


def endpoint_detail(spec: EndpointSpec) -> EndpointDetail:
    """Returns the details of an endpoint."""
    return EndpointDetail(
        name=spec.name,
        path=spec.path,
        text=spec.docs.description,
        parameters=spec.parameters,
        batch_max_rows=spec.batch_max_rows,
        batch_max_delay_ms=spec.batch_max_delay_ms,
        input_schema=spec.input_schema,
        output_schema=spec.output_schema,
        query={name: spec.docs.query.get(name, {}) for name in spec.query},
        batched=not (spec.whole or spec.unbatched),
        method=spec.method,
    )
