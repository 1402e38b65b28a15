"""What became of all requests: the book that callers keep together."""

from __future__ import annotations

import itertools
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field

ALLOWED = frozenset({200, 429, 503})
"""What a request that is as it should be may be answered with: its rows, or that there is no room or no worker for them now."""

FAULTS_MAX = 20


@dataclass(frozen=True)
class Asked:
    """One request: who asked which model for which rows, and when (monotonic)."""

    who: str
    model: str
    rows: list[dict[str, int]]
    at_s: float


@dataclass
class Counts:
    """Of one soak.

    Attributes:
        asked: requests that were sent.
        statuses: (who asked, status and, of a refusal, its code) → answers.
        lost: when (monotonic) a connection ended before its answer came.
        kills: model → when (monotonic) a worker of it was killed.
        faults: what must not be, the first of each soak.
    """

    asked: int = 0
    statuses: Counter[tuple[str, str]] = field(default_factory=Counter)
    lost: list[float] = field(default_factory=list)
    kills: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    faults: list[str] = field(default_factory=list)
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def answered(self) -> int:
        """Requests with an answer, whatever it was."""
        return sum(self.statuses.values())

    def fault(self, text: str) -> None:
        """Something that must not be."""
        if len(self.faults) < FAULTS_MAX:
            self.faults.append(text)

    def rows(self, count: int) -> list[dict[str, int]]:
        """Rows that nobody else sends."""
        return [{"x": next(self.numbers)} for _ in range(count)]

    def answer(self, asked: Asked, status: int, said: object, newest: int) -> None:
        """One answer to these rows; `newest` is the newest release that may have given it."""
        self.note(asked.who, status, said)
        if status == 200:
            self._compare(asked, said, newest)
        elif status not in ALLOWED and not self._has_chance_as_excuse(asked, said):
            self.fault(f"{asked.who}: {status}: {said}")

    def _has_chance_as_excuse(self, asked: Asked, said: object) -> bool:
        """Whether it was taken for one that kills its workers, and two of them were killed since it was asked, by us."""
        kills = [at_s for at_s in self.kills[asked.model] if asked.at_s <= at_s <= time.monotonic()]
        return isinstance(said, dict) and str(said.get("detail")).startswith("2 workers exited") and len(kills) > 1

    def note(self, who: str, status: int, said: object) -> None:
        """It was answered."""
        code = said.get("code") if isinstance(said, dict) else None
        self.statuses[who, f"{status} {code}" if code else str(status)] += 1

    def _compare(self, asked: Asked, said: object, newest: int) -> None:
        who, rows = asked.who, asked.rows
        predictions = said["predictions"] if isinstance(said, dict) else None
        if not isinstance(predictions, list) or [each["x"] for each in predictions] != [row["x"] for row in rows]:
            self.fault(f"{who}: {rows} were answered with {said}")
        elif len(releases := {each["release"] for each in predictions}) != 1 or not 1 <= max(releases) <= newest:
            self.fault(f"{who}: {rows} were computed by the releases {releases}, of which the newest is {newest}")
