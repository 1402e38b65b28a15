"""Carries out the orders of operators about the traffic of a model: checks them against its releases, stores and applies them."""

from __future__ import annotations

import logging
from collections.abc import Callable

from msgspec.structs import replace

from runtime.supervisor.rollout import policy_changes, traffic_policy
from runtime.supervisor.rollout.policy_record import PolicyRecord
from runtime.supervisor.rollout.traffic_plan import desired_shares, plan_traffic
from runtime.supervisor.rollout.traffic_policy import TrafficPolicy
from runtime.supervisor.status.state import timestamp
from runtime.supervisor.traffic.records import TrafficRecords

log = logging.getLogger(__name__)


class TrafficOrders:
    """Carries out orders about the traffic of models. An order that raises has changed nothing.

    Args:
        records: The policies of all models.
        on_changed: Called after every order.
    """

    def __init__(self, records: TrafficRecords, on_changed: Callable[[], None]) -> None:
        self._records = records
        self._on_changed = on_changed

    def change_policy(self, model: str, change: Callable[[TrafficPolicy], TrafficPolicy], why: str) -> None:
        """Changes the policy of a model.

        Args:
            model: Name of the model in any spelling.
            change: A function of `traffic_policy` with its other arguments bound.
            why: Reason for the history, such as "split by an operator".

        Raises:
            NotFound: There is no such model, or it has no such release that could serve.
            Conflict: The existing releases do not allow the change; the error says what to do.
            Unavailable: The policy cannot be stored.
        """
        name = self._records.require_model(model)
        before = self._records.record(name)
        releases = self._records.releases.verified_of_model(name)
        after = policy_changes.validate_change(before.traffic, change(before.traffic), releases)
        self._apply(name, before, after, why)

    def promote(self, model: str, version: str | None = None) -> None:
        """Sends all requests to a version or label, or without one to the newest release, even if it was rolled back.

        Raises:
            NotFound, Conflict, Unavailable: As in `change_policy`.
        """
        name = self._records.require_model(model)
        before = self._records.record(name)
        after = policy_changes.promote_release(before.traffic, version, self._records.require_releases(name))
        self._apply(name, before, after, "promoted")

    def roll_back(self, model: str) -> None:
        """Sends all requests to the release that served before. The present release does not serve again until it is promoted.

        Raises:
            NotFound, Conflict, Unavailable: As in `change_policy`.
        """
        name = self._records.require_model(model)
        before, releases = self._records.record(name), self._records.require_releases(name)
        serving = [release for release, _ in plan_traffic(releases, before.traffic).shares]
        reason = f"it was rolled back at {timestamp()}"
        after = policy_changes.roll_back_to_previous(before.traffic, releases, serving, reason)
        self._apply(name, before, after, "rolled back")

    def move_label(self, model: str, label: str, version: str | None) -> None:
        """Moves a label to a version whose release is ready, or removes it.

        Raises:
            NotFound, Conflict, Unavailable: As in `change_policy`.
        """
        if version is None:
            self.change_policy(model, lambda policy: traffic_policy.without_label(policy, label), f"label {label} removed")
        else:
            self.change_policy(model, lambda policy: traffic_policy.with_label(policy, label, version), f"label {label} moved to {version}")

    def _apply(self, name: str, before: PolicyRecord, after: TrafficPolicy, why: str) -> None:
        self._records.store.put_record(name, replace(before, traffic=after))
        log.info("%s: %s", name, why)
        self._note_reason(name, before.traffic, after, why)
        self._on_changed()

    def _note_reason(self, name: str, before: TrafficPolicy, after: TrafficPolicy, why: str) -> None:
        """Sets an order as the reason of the next shift if it changes the desired releases; other shifts have other reasons."""
        releases, progress = self._records.releases.verified_of_model(name), self._records.progress(name)
        desired = dict(desired_shares(releases, after))
        if {release.sha256: weight for release, weight in desired.items()} == progress.shares:
            progress.why = ""
        elif desired != dict(desired_shares(releases, before)):
            progress.why = why
