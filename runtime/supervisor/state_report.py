"""Assembles the state of a running supervisor from its parts."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

import msgspec

from runtime.settings import Settings
from runtime.supervisor.dist.mirror_loop import MirrorLoop
from runtime.supervisor.fleet.fleet import Fleet
from runtime.supervisor.host.listeners import local_url
from runtime.supervisor.processes.front_doors import FrontDoorGroup
from runtime.supervisor.status.state import ReleaseReport, State, timestamp
from runtime.supervisor.traffic.model_report import report_models


class StateReporter:
    """Makes the state of one supervisor.

    Args:
        settings: All settings.
        listeners: The listening sockets of one front door.
        fleet: All releases.
        front_doors: All front doors.
        mirror_loop: Mirrors an object store into dist/; None if no store is set.

    Attributes:
        admin_address: URL of the TCP listener of the admin server; empty without one.
    """

    def __init__(
        self,
        settings: Settings,
        listeners: Sequence[socket.socket],
        fleet: Fleet,
        front_doors: FrontDoorGroup,
        mirror_loop: MirrorLoop | None,
    ) -> None:
        self._settings = settings
        scheme = "http" if settings.tls is None else "https"
        self._addresses = [local_url(listener, scheme) for listener in listeners]
        self._fleet = fleet
        self._front_doors = front_doors
        self._mirror_loop = mirror_loop
        self._started = timestamp()
        self._routed: set[str] = set()  # digests of the releases in the table that all front doors have applied
        self.admin_address = ""

    def make_state(self) -> State:
        """Returns the current state."""
        table, applied_generation = self._fleet.table, self._front_doors.applied_generation
        if applied_generation >= table.generation:
            self._routed = {route.release_id for route in table.routes}
        return State(
            dist_path=str(self._settings.dist_path),
            dist_url=self._settings.dist_url or "",
            dist_reason=self._mirror_loop.reason if self._mirror_loop is not None else "",
            pid=os.getpid(),
            address=self._addresses[0],
            addresses=self._addresses,
            admin_address=self.admin_address,
            started=self._started,
            generation=table.generation,
            applied_generation=applied_generation,
            startup_complete=table.startup_complete,
            waits_for=self._fleet.states.waits_for,
            front_door_pids=self._front_doors.pids,
            front_doors=self._front_doors.reports(),
            releases=[self._as_clients_see(report) for report in self._fleet.releases.reports(self._fleet.records.policies)],
            models=report_models(self._fleet.records, self._fleet.states),
        )

    def _as_clients_see(self, report: ReleaseReport) -> ReleaseReport:
        """Returns a report, with state "starting" if its release is ready but not yet known to every front door."""
        unrouted = report.kind == "model" and report.state == "ready" and report.sha256 not in self._routed
        return msgspec.structs.replace(report, state="starting") if unrouted else report
