"""The period after a traffic shift in which a release may be rolled back: its counts and its rules. Pure: knows no clock."""

from __future__ import annotations

from dataclasses import dataclass

from base.ipc.front_door_control import FailureLimit, OutcomeReport
from runtime.settings import Settings


@dataclass(frozen=True)
class ProbationRules:
    """The rules by which a release on probation is rolled back.

    Attributes:
        time_s: Length of the probation in seconds; 0 disables it.
        failure_limit: Limit of failed requests at which a release is rolled back, at all front doors together or at one its share of it.
        crashes_max: Number of worker crashes at which a release is rolled back.
    """

    time_s: float
    failure_limit: FailureLimit
    crashes_max: int


def probation_rules(settings: Settings) -> ProbationRules:
    """Returns the rules by the settings."""
    limit = FailureLimit(settings.probation_requests_min, settings.probation_errors_percent)
    return ProbationRules(settings.probation_s, limit, settings.probation_crashes_max)


@dataclass
class Probation:
    """Counts of requests and worker crashes of one release since traffic shifted to it."""

    rules: ProbationRules
    until: str
    answered: int = 0
    failed: int = 0
    limit_reached: bool = False
    crash_count: int = 0
    last_crash: str = ""

    def record_crash(self, reason: str) -> None:
        """Counts the crash of a worker."""
        self.crash_count += 1
        self.last_crash = reason

    def record_requests(self, report: OutcomeReport) -> None:
        """Counts the answered requests of a front door, and how many of them failed because of the release."""
        self.answered += report.answered
        self.failed += report.failed
        self.limit_reached |= report.limit_reached

    @property
    def verdict(self) -> str:
        """Returns the reason to roll the release back; empty if there is none."""
        rules = self.rules
        if self.crash_count >= rules.crashes_max:
            return (
                f"{self.crash_count} of its workers crashed within {rules.time_s:g} s of its first request; the last one: {self.last_crash}"
            )
        if self.limit_reached or rules.failure_limit.is_reached(self.answered, self.failed):
            where = "" if rules.failure_limit.is_reached(self.answered, self.failed) else " at one of the front doors"
            limit = f"the limit is {rules.failure_limit.errors_percent:g} %{where}"
            return f"{self.failed} of its first {self.answered} requests failed; {limit}"
        return ""
