"""The parts of the supervisor that every release needs to be verified, unpacked and started."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from base.backoff import Backoff
from base.ipc.control import BATCH_CHECK_ENV, BATCH_CHECK_REFUSE, DESCRIBE_ENV, RELEASE_ID_ENV
from base.ipc.metrics_report import MetricsReport
from base.telemetry.loop_watchdog import TURN_WARN_VARIABLE
from base.telemetry.recorder import metrics_environment
from runtime.pex.cache.store import PexCache
from runtime.pex.trust.policy import TrustPolicy
from runtime.settings import Settings
from runtime.supervisor.host.run_dir import RunDir
from runtime.supervisor.processes.child import child_environment
from runtime.supervisor.processes.sandbox import Sandbox
from runtime.supervisor.processes.start_limiter import StartLimiter
from runtime.supervisor.processes.worker_run import WorkerTemplate
from runtime.supervisor.rollout.release import Release

log = logging.getLogger(__name__)

_READY_S = 1e-9
"""Any time for which a job worker was ready. It exits then because of its job, which fails by that, and others shall not wait."""


@dataclass
class ReleaseContext:
    """The parts of the supervisor that all releases share.

    Attributes:
        store: Cache of unpacked bases and releases.
        settings: All settings. A reload replaces them, and releases that start afterwards follow the new ones.
        run_dir: Run directory, in which workers have their sockets.
        report: Receives the metrics of workers.
        start_limiter: Limits the number of workers that start at the same time.
        sandbox: Restricts what workers can access.
        trust: Decides which pexes are trusted; None if all are.
    """

    store: PexCache
    settings: Settings
    run_dir: RunDir
    report: Callable[[MetricsReport], None]
    start_limiter: StartLimiter
    sandbox: Sandbox
    trust: TrustPolicy | None = None

    def trusted_path(self, pex: Path) -> Path:
        """Returns the file to verify: `pex` itself, or a copy of it that is trusted if a trust policy is set. Blocks.

        Raises:
            PexRefused: The file cannot be copied, or is not trusted. Its bytes were read but not interpreted.
        """
        trust = self.trust
        if trust is None:
            return pex
        return self.store.admit(pex, lambda copy, sha256: log.info("%s: %s", pex.name, trust.verify(pex, copy, sha256))).path

    def worker_template(self, release: Release, argv: list[str]) -> WorkerTemplate:
        """Returns the parameters with which the workers of one release are started."""
        settings = self.settings
        cache_path = self.sandbox.cache_folder(settings.cache_path)
        places = {"PEXDOCK_ARTIFACTS_PATH": str(settings.artifacts_path), "PEXDOCK_CACHE_PATH": str(cache_path)}
        measures = {TURN_WARN_VARIABLE: str(settings.loop_turn_warn_ms), **metrics_environment(settings.measuring)}
        checks = {} if settings.batch_check == BATCH_CHECK_REFUSE else {BATCH_CHECK_ENV: settings.batch_check}
        own = {**places, RELEASE_ID_ENV: release.sha256, DESCRIBE_ENV: "1", **measures, **checks}
        env = child_environment(self.sandbox.environment_for(release.name, os.environ), own)
        return WorkerTemplate(
            release.title,
            release.name,
            argv,
            env,
            self.run_dir,
            settings.start_timeout_s,
            settings.drain_s,
            Backoff(settings.restart_delay_min_s, settings.restart_delay_max_s),
            self.report,
            self.start_limiter,
            settings.start_nice,
            self.sandbox,
            settings.unresponsive_s,
        )

    def job_worker_template(self, template: WorkerTemplate) -> WorkerTemplate:
        """Returns the parameters with which the job workers of a release are started, by those of its other workers.

        One that is no longer needed may finish its job, so it is drained for as long as a job may take.
        """
        settings, sandbox = self.settings, template.sandbox
        if settings.job_worker_max_bytes:
            sandbox = replace(sandbox, max_bytes=int(settings.job_worker_max_bytes), max_bytes_setting="job_worker_max_bytes")
        return replace(
            template,
            title=f"{template.title} (jobs)",
            env={**template.env, TURN_WARN_VARIABLE: "0"},  # it waits for the processor whenever anything else runs
            sandbox=sandbox,
            nice=settings.job_worker_nice,
            backoff=replace(template.backoff, reset_s=_READY_S),
            drain_s=settings.job_timeout_s,
        )
