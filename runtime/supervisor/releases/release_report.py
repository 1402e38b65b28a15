"""The report of one release in the state file."""

from __future__ import annotations

from runtime.supervisor.releases.managed_release import ManagedRelease
from runtime.supervisor.rollout.model_status import waiting_reason
from runtime.supervisor.rollout.release_state import ReleaseState
from runtime.supervisor.status.state import ReleaseReport


def report_release(managed: ManagedRelease, standby_reason: str) -> ReleaseReport:
    """Returns the report of a release. `standby_reason` is the reason why it does not run, if it is on standby."""
    release, files = managed.release, managed.files
    state = _shown_state(managed)
    return ReleaseReport(
        file=release.file,
        order=release.order,
        state=state,
        since=managed.since,
        kind=release.identity.kind if release.identity else "",
        name=release.name,
        version=release.version,
        sha256=release.sha256,
        base_version=files.base.version if files.base and release.is_model else "",
        reason=_shown_reason(managed, state, standby_reason),
        log=managed.worker_log,
        warnings=files.warnings + managed.worker_warnings + _file_warnings(managed),
        paths=[endpoint.path for endpoint in release.spec.endpoints] if release.spec else [],
        worker_pids=managed.workers.pids,
        job_worker_pids=managed.job_workers.pids,
        restarts=managed.workers.restarts,
    )


def _shown_state(managed: ManagedRelease) -> str:
    release = managed.release
    if release.state is ReleaseState.RUNNING:
        if not release.is_model or managed.is_up:
            return "kept" if release.warm_standby else "ready"
        return "restarting" if release.was_ready or release.crash_count else "starting"
    return "stopping" if release.state is ReleaseState.STANDBY and managed.workers.processes else str(release.state)


def _shown_reason(managed: ManagedRelease, state: str, standby_reason: str) -> str:
    release = managed.release
    if release.state is ReleaseState.STANDBY and not release.reason:
        return standby_reason
    if managed.is_up and release.awaits:
        return waiting_reason(release)
    return f"it was restarted: {release.reason}" if release.reason and state == "ready" else release.reason


def _file_warnings(managed: ManagedRelease) -> list[str]:
    if managed.release.in_place or managed.release.state is not ReleaseState.RUNNING:
        return []
    other = managed.release.replaced_by
    if other is None:
        what = "is no longer in dist/"
    else:
        what = f"cannot be used now ({other.reason})" if other.state is ReleaseState.REFUSED else "has different content now"
    return [f"its file {what}; it serves until another release takes over or Pexdock exits"]
