"""Releases as a table for people. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from runtime.supervisor.status.state import ReleaseReport, State
from runtime.text_table import format_table


def as_table(state: State) -> str:
    """Returns the supervisor, and a table of releases, with reasons and the last lines of failed workers."""
    if state.pid is None:
        head = f"no supervisor runs on {state.dist_path}; start one with `pexdock serve`"
    else:
        head = f"supervisor {state.pid} serves {state.dist_path} at {', '.join(state.addresses) or state.address or '(not bound yet)'}"
    if state.dist_url:
        problem = f", but the last attempt failed: {state.dist_reason}" if state.dist_reason else ""
        head += f"\n{state.dist_path} mirrors {state.dist_url}{problem}"
    if state.waits_for:
        head += f"\nnot ready: /readyz waits for {', '.join(state.waits_for)}"
    for door in state.front_doors:
        if door.state != "serving":
            head += f"\n{door.name}{'' if door.pid is None else f' (pid {door.pid})'} is {door.state}"
    if not state.releases:
        question = ", although models have served from it before: is dist_path mounted?" if state.models else ""
        return f"{head}\n\nno pex in {state.dist_path}{question}"
    return f"{head}\n\n{releases_as_text(state.releases)}"


def releases_as_text(releases: Sequence[ReleaseReport]) -> str:
    """Returns one line for each release, of which there must be at least one."""
    rows = [("FILE", "NAME", "VERSION", "DIGEST", "STATE", "BASE", "RESTARTS", "PATHS")] + [_row(report) for report in releases]
    lines = format_table(rows)
    body = [lines[0]]
    for line, report in zip(lines[1:], releases, strict=True):
        body += [line, *_remarks(report)]
    return "\n".join(body)


def _row(report: ReleaseReport) -> tuple[str, ...]:
    paths = " ".join(report.paths)
    return (
        report.file,
        report.name or "-",
        report.version or "-",
        report.sha256[:8] or "-",
        report.state,
        report.base_version or "-",
        str(report.restarts),
        paths or "-",
    )


def _remarks(report: ReleaseReport) -> list[str]:
    reason = [f"    {report.reason}"] if report.reason else []
    if report.job_worker_pids:
        reason.append(f"    job workers: {', '.join(map(str, report.job_worker_pids))}")
    return reason + [f"    | {line}" for line in report.log] + [f"    warning: {warning}" for warning in report.warnings]
