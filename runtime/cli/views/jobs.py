"""Jobs as text for people. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from runtime.jobs.documents import JobDocument
from runtime.text_table import format_size, format_table

_HEAD = ("ID", "CLIENT", "STATE", "CREATED", "MODEL", "TARGET")


def jobs_as_text(jobs: Sequence[JobDocument]) -> str:
    """Returns a table of jobs; empty if there are none."""
    rows = [(job.id, job.client or "-", progress_as_text(job), _time(job.created_at), job.model, job.target) for job in jobs]
    return "\n".join(format_table([_HEAD, *rows])) if rows else ""


def job_as_text(job: JobDocument) -> str:
    """Returns all that is known of a job, a line for each fact."""
    facts = {
        "state": progress_as_text(job),
        "model": job.model,
        "target": job.target,
        "priority": str(job.priority),
        "created": _time(job.created_at),
        "started": _time(job.started_at),
        "ended": _time(job.ended_at),
        "attempts": str(job.attempts),
        "release": job.release[:12],
        "result": "" if job.result is None else f"{format_size(job.result.bytes)} of {job.result.media_type}",
    }
    return "\n".join(format_table([(name, value) for name, value in facts.items() if value]))


def progress_as_text(job: JobDocument) -> str:
    """Returns the state of a job with what is known of its progress, on one line."""
    parts = [f"{job.state}, cancellation requested" if job.cancel_requested and not job.state.is_final else str(job.state)]
    if job.place is not None:
        parts.append(f"place {job.place}")
    if job.fraction is not None and not job.state.is_final:
        parts.append(f"{job.fraction:.0%}")
    text = job.reason or ("" if job.state.is_final else job.message)
    return " ".join(parts) + (f": {' '.join(text.split())}" if text else "")


def _time(at: datetime | None) -> str:
    return "" if at is None else at.astimezone().isoformat(" ", "seconds")
