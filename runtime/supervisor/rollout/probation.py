"""The time after a flip in which a release may be taken back: what is counted, and when it is enough. Pure: knows no clock."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.settings import Settings


@dataclass(frozen=True)
class ProbationRules:
    """When a release has failed.

    Attributes:
        time_s: how long it is watched; 0 for not at all.
        errors_percent: so many of its answers failed ...
        requests_min: ... of at least so many.
        deaths_max: so many of its workers died.
    """

    time_s: float
    errors_percent: float
    requests_min: int
    deaths_max: int


def probation_rules(settings: Settings) -> ProbationRules:
    """Returns the rules that the settings ask for."""
    return ProbationRules(
        settings.probation_s, settings.probation_errors_percent, settings.probation_requests_min, settings.probation_crashes_max
    )


@dataclass
class Probation:
    """What became of the requests and workers of one release since its flip."""

    rules: ProbationRules
    until: str
    answered: int = 0
    failed: int = 0
    deaths: int = 0
    last_death: str = ""

    def died(self, reason: str) -> None:
        """One of its workers died."""
        self.deaths += 1
        self.last_death = reason

    def ended(self, answered: int, failed: int) -> None:
        """So many requests were answered, and so many of them failed by its fault."""
        self.answered += answered
        self.failed += failed

    @property
    def verdict(self) -> str:
        """Why it should be taken back; nothing while it should not."""
        rules = self.rules
        if self.deaths >= rules.deaths_max:
            return f"{self.deaths} of its workers died within {rules.time_s:g} s of its first request; the last one: {self.last_death}"
        if self.failed and self.answered >= rules.requests_min and 100 * self.failed >= rules.errors_percent * self.answered:
            return f"{self.failed} of its first {self.answered} requests failed; {rules.errors_percent:g} % are enough"
        return ""
