"""The persistent record of one model: its traffic policy, and the history of its traffic shifts. Pure."""

from __future__ import annotations

import msgspec

from runtime.supervisor.rollout.traffic_policy import TrafficPolicy

HISTORY_MAX = 50
"""Number of traffic shifts that are remembered per model, so that a model that is dropped every minute does not fill the disk."""


class TrafficShift(msgspec.Struct, frozen=True):
    """A change of the releases that receive a model's requests.

    Attributes:
        at: Wall clock time.
        what: The releases that receive requests since then.
        why: Reason of the change.
    """

    at: str
    what: str
    why: str


class PolicyRecord(msgspec.Struct, frozen=True):
    """The policy of one model, its history with the latest shift last, and the paths with which it serves or served last."""

    traffic: TrafficPolicy = TrafficPolicy()
    history: list[TrafficShift] = []
    paths: list[str] = []

    def with_shift(self, shift: TrafficShift) -> PolicyRecord:
        """Returns the record with one more shift, and without the oldest one if there are too many."""
        return msgspec.structs.replace(self, history=[*self.history, shift][-HISTORY_MAX:])
