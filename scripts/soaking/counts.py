"""The outcomes of all requests, as the callers count them."""

from __future__ import annotations

import itertools
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field

ALLOWED = frozenset({200, 429, 503})
"""Statuses of a valid request: success, or no room in the queue, or no worker at present."""

FAULTS_MAX = 20


@dataclass(frozen=True)
class SentRequest:
    """A request: its client, model, rows, and time (monotonic)."""

    who: str
    model: str
    rows: list[dict[str, int]]
    at_s: float


@dataclass
class Counts:
    """The counts of a soak test.

    Attributes:
        asked: Number of requests that were sent.
        statuses: (client, status with the code of an error) → number of answers.
        lost: Times (monotonic) at which a connection closed before its answer.
        kills: Model → times (monotonic) at which one of its workers was killed.
        faults: The first violations of a promise.
        numbers: Numbers for rows, each used once.
    """

    asked: int = 0
    statuses: Counter[tuple[str, str]] = field(default_factory=Counter)
    lost: list[float] = field(default_factory=list)
    kills: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    faults: list[str] = field(default_factory=list)
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def answered(self) -> int:
        """Returns the number of requests with an answer of any status."""
        return sum(self.statuses.values())

    def add_fault(self, text: str) -> None:
        """Records a violation of a promise."""
        if len(self.faults) < FAULTS_MAX:
            self.faults.append(text)

    def unique_rows(self, count: int) -> list[dict[str, int]]:
        """Returns rows that no other request has."""
        return [{"x": next(self.numbers)} for _ in range(count)]

    def add_answer(self, sent: SentRequest, status: int, document: object, newest: int) -> None:
        """Counts and verifies an answer; `newest` is the newest release that may have computed it."""
        self.count_status(sent.who, status, document)
        if status == 200:
            self._compare(sent, document, newest)
        elif status not in ALLOWED and not self._excused_by_kills(sent, document):
            self.add_fault(f"{sent.who}: {status}: {document}")

    def _excused_by_kills(self, sent: SentRequest, document: object) -> bool:
        """Returns whether it was blamed for the crash of two workers, while this test has killed two since it was sent."""
        kills = [at_s for at_s in self.kills[sent.model] if sent.at_s <= at_s <= time.monotonic()]
        return isinstance(document, dict) and str(document.get("detail")).startswith("2 workers exited") and len(kills) > 1

    def count_status(self, who: str, status: int, document: object) -> None:
        """Counts an answer by its status."""
        code = document.get("code") if isinstance(document, dict) else None
        self.statuses[who, f"{status} {code}" if code else str(status)] += 1

    def _compare(self, sent: SentRequest, document: object, newest: int) -> None:
        who, rows = sent.who, sent.rows
        predictions = document["predictions"] if isinstance(document, dict) else None
        if not isinstance(predictions, list) or [each["x"] for each in predictions] != [row["x"] for row in rows]:
            self.add_fault(f"{who}: {rows} were answered with {document}")
        elif len(releases := {each["release"] for each in predictions}) != 1 or not 1 <= max(releases) <= newest:
            self.add_fault(f"{who}: {rows} were computed by releases {releases}, while the newest is {newest}")
