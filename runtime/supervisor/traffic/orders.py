"""Carries out the orders of operators about the traffic of a model: checks them against its releases, stores and applies them."""

from __future__ import annotations

import asyncio
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
    """Carries out orders about the traffic of models, one at a time. An order that raises has changed nothing.

    Args:
        records: The policies of all models.
        on_changed: Called after every order.
    """

    def __init__(self, records: TrafficRecords, on_changed: Callable[[], None]) -> None:
        self._records = records
        self._on_changed = on_changed

    async def change_policy(self, model: str, change: Callable[[TrafficPolicy], TrafficPolicy], why: str) -> None:
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

        def changed(before: TrafficPolicy) -> TrafficPolicy:
            return policy_changes.validate_change(before, change(before), self._records.releases.verified_of_model(name))

        await self._apply(name, changed, why)

    async def promote(self, model: str, version: str | None = None) -> None:
        """Sends all requests to a version or label, or without one to the newest release, even if it was rolled back.

        Raises:
            NotFound, Conflict, Unavailable: As in `change_policy`.
        """
        name = self._records.require_model(model)

        def changed(before: TrafficPolicy) -> TrafficPolicy:
            return policy_changes.promote_release(before, version, self._records.require_releases(name))

        await self._apply(name, changed, "promoted")

    async def roll_back(self, model: str) -> None:
        """Sends all requests to the release that served before. The present release does not serve again until it is promoted.

        Raises:
            NotFound, Conflict, Unavailable: As in `change_policy`.
        """
        name = self._records.require_model(model)
        reason = f"by an operator at {timestamp()}"

        def changed(before: TrafficPolicy) -> TrafficPolicy:
            releases = self._records.require_releases(name)
            serving = [release for release, _ in plan_traffic(releases, before).shares]
            return policy_changes.roll_back_to_previous(before, releases, serving, reason)

        await self._apply(name, changed, "rolled back")

    async def move_label(self, model: str, label: str, version: str | None) -> None:
        """Moves a label to a version whose release is ready, or removes it.

        Raises:
            NotFound, Conflict, Unavailable: As in `change_policy`.
        """
        if version is None:
            await self.change_policy(model, lambda policy: traffic_policy.without_label(policy, label), f"label {label} removed")
        else:
            why = f"label {label} moved to {version}"
            await self.change_policy(model, lambda policy: traffic_policy.with_label(policy, label, version), why)

    async def _apply(self, name: str, change: Callable[[TrafficPolicy], TrafficPolicy], why: str) -> None:
        """Stores and applies a change. It is applied even if its client no longer waits, since it may be stored already."""
        await asyncio.shield(asyncio.ensure_future(self._store_and_apply(name, change, why)))

    async def _store_and_apply(self, name: str, change: Callable[[TrafficPolicy], TrafficPolicy], why: str) -> None:
        def changed(record: PolicyRecord) -> PolicyRecord:
            return replace(record, traffic=change(record.traffic))

        before, after = await self._records.store.put_record(name, changed)
        log.info("%s: %s", name, why)
        self._note_reason(name, before.traffic, after.traffic, why)
        self._on_changed()

    def _note_reason(self, name: str, before: TrafficPolicy, after: TrafficPolicy, why: str) -> None:
        """Sets an order as the reason of the next shift if it changes the desired releases; other shifts have other reasons."""
        releases, progress = self._records.releases.verified_of_model(name), self._records.progress(name)
        desired = dict(desired_shares(releases, after))
        if {release.sha256: weight for release, weight in desired.items()} == progress.shares:
            progress.why = ""
        elif desired != dict(desired_shares(releases, before)):
            progress.why = why
