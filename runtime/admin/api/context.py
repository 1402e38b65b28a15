"""The parts of the supervisor that the admin API may use. They live on the supervisor's loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name

from base.errors import NotFound
from runtime.jobs.client import JobClient
from runtime.supervisor.fleet.fleet import Fleet
from runtime.supervisor.host.log_buffer import LogBuffer
from runtime.supervisor.releases.managed_release import ManagedRelease
from runtime.supervisor.status.state import ModelReport, State
from runtime.supervisor.status.state_feed import StateFeed
from runtime.supervisor.traffic.model_report import report_models


@dataclass(frozen=True)
class UploadTarget:
    """The folder for uploaded pexes.

    Attributes:
        path: The folder, dist/.
        dist_url: Object store that the folder mirrors; uploads are refused if it is set.
        pex_max_bytes: Largest pex to accept.
    """

    path: Path
    dist_url: str
    pex_max_bytes: int


@dataclass(frozen=True)
class AdminContext:
    """Everything that the admin API reads and changes.

    Attributes:
        state: Returns the current state of the supervisor.
        changes: Notifies of changes of the state.
        fleet: All releases, and their traffic.
        log_buffer: The last log lines of all processes.
        uploads: Folder for uploaded pexes.
        drain: Starts a graceful shutdown, as SIGTERM does.
        jobs: The job runner; None if there is none.
    """

    state: Callable[[], State]
    changes: StateFeed
    fleet: Fleet
    log_buffer: LogBuffer
    uploads: UploadTarget
    drain: Callable[[], None]
    jobs: JobClient | None = None

    def model_report(self, model: str) -> ModelReport:
        """Returns the report of a model, by any spelling of its name.

        Raises:
            NotFound: The model does not exist.
        """
        found = {report.name: report for report in report_models(self.fleet.records, self.fleet.states)}
        report = found.get(canonicalize_name(model))
        if report is None:
            raise NotFound(f"model {model} does not exist; the models in dist/ are {', '.join(found) or 'none'}")
        return report

    def serving_release(self, model: str) -> ManagedRelease:
        """Returns the serving release of a model.

        Raises:
            NotFound: The model does not exist, or none of its releases serves.
        """
        if (found := self.fleet.serving_release(model)) is not None:
            return found
        releases = [report for report in self.state().releases if report.kind == "model"]
        for report in releases:
            if report.name == model:
                raise NotFound(f"{model} {report.version} does not serve: it is {report.state}{report.reason and f': {report.reason}'}")
        names = sorted({report.name for report in releases})
        raise NotFound(f"model {model} does not exist; the models in dist/ are {', '.join(names) or 'none'}")
