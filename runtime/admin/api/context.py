"""What the admin side may ask of the supervisor that it belongs to. Runs on the supervisor's loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name

from base.errors import NotFound
from runtime.supervisor.fleet.fleet import Fleet
from runtime.supervisor.host.log_buffer import LogBuffer
from runtime.supervisor.status.state import ModelReport, State
from runtime.supervisor.status.state_feed import StateFeed


@dataclass(frozen=True)
class UploadTarget:
    """What may be dropped over HTTP.

    Attributes:
        path: the folder.
        url: what the folder follows; then nothing can be dropped here.
        max_bytes: of one pex.
    """

    path: Path
    dist_url: str
    pex_max_bytes: int


@dataclass(frozen=True)
class AdminContext:
    """All of it.

    Attributes:
        state: what the supervisor says of itself.
        changes: of the state.
        fleet: the releases, and what operators say about them.
        logbook: the last lines of everybody.
        dropping: where pexes go.
        drain: end in order, as at SIGTERM.
    """

    state: Callable[[], State]
    changes: StateFeed
    fleet: Fleet
    log_buffer: LogBuffer
    uploads: UploadTarget
    drain: Callable[[], None]

    def model_report(self, model: str) -> ModelReport:
        """What is said of one model, by any spelling of its name.

        Raises:
            NotFound: there is none.
        """
        found = {report.name: report for report in self.fleet.rollouts.reports()}
        report = found.get(canonicalize_name(model))
        if report is None:
            raise NotFound(f"there is no model {model}; those in dist/ are {', '.join(found) or 'none'}")
        return report
