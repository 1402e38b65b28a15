"""The period after a traffic shift in which a release may be rolled back: its counts and its rules. Pure: knows no clock."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.settings import Settings


@dataclass(frozen=True)
class ProbationRules:
    """The rules by which a release on probation is rolled back.

    Attributes:
        time_s: Length of the probation in seconds; 0 disables it.
        errors_percent: Share of failed requests at which a release is rolled back.
        requests_min: Number of answered requests below which failed requests do not count.
        crashes_max: Number of worker crashes at which a release is rolled back.
    """

    time_s: float
    errors_percent: float
    requests_min: int
    crashes_max: int


def probation_rules(settings: Settings) -> ProbationRules:
    """Returns the rules by the settings."""
    return ProbationRules(
        settings.probation_s, settings.probation_errors_percent, settings.probation_requests_min, settings.probation_crashes_max
    )


@dataclass
class Probation:
    """Counts of requests and worker crashes of one release since traffic shifted to it."""

    rules: ProbationRules
    until: str
    answered: int = 0
    failed: int = 0
    crash_count: int = 0
    last_crash: str = ""

    def record_crash(self, reason: str) -> None:
        """Counts the crash of a worker."""
        self.crash_count += 1
        self.last_crash = reason

    def record_requests(self, answered: int, failed: int) -> None:
        """Counts answered requests, and how many of them failed because of the release."""
        self.answered += answered
        self.failed += failed

    @property
    def verdict(self) -> str:
        """Returns the reason to roll the release back; empty if there is none."""
        rules = self.rules
        if self.crash_count >= rules.crashes_max:
            return (
                f"{self.crash_count} of its workers crashed within {rules.time_s:g} s of its first request; the last one: {self.last_crash}"
            )
        if self.failed and self.answered >= rules.requests_min and 100 * self.failed >= rules.errors_percent * self.answered:
            return f"{self.failed} of its first {self.answered} requests failed; the limit is {rules.errors_percent:g} %"
        return ""
