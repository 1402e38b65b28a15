"""The states of a model, what each means for its paths, for probes and for people, and which models readiness waits for. Pure.

The supervisor derives the state of each model and sends it to the front doors. `docs/operations/readiness.md` shows the same table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus

from packaging.utils import canonicalize_name


class ModelState(StrEnum):
    """State of one model. The values appear in the state file, on the admin API and in responses."""

    UNKNOWN = "unknown"
    STARTING = "starting"
    WARMING = "warming"
    READY = "ready"
    DEGRADED = "degraded"
    RESTARTING = "restarting"
    FAILED = "failed"
    REFUSED = "refused"
    RETIRING = "retiring"


@dataclass(frozen=True)
class StateMeaning:
    """The meaning of a state.

    Attributes:
        description: The state in a sentence.
        path_status: Status of a valid request to one of its paths.
        ready: Whether the model answers and should receive requests: `/readyz/MODEL` is 200, and the metric `ModelReady` is 1.
        holds_start: Whether the policy `started` waits for a model in this state that has not been ready since Pexdock started.
    """

    description: str
    path_status: HTTPStatus
    ready: bool
    holds_start: bool


_OK, _NOT_FOUND, _UNAVAILABLE = HTTPStatus.OK, HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE

MEANINGS: Mapping[ModelState, StateMeaning] = {
    ModelState.UNKNOWN: StateMeaning("No file of it is in `dist/`.", _NOT_FOUND, ready=False, holds_start=False),
    ModelState.STARTING: StateMeaning(
        "A release is verified or unpacked, waits for its turn to start, or waits until the paths of others are known.",
        _UNAVAILABLE,
        ready=False,
        holds_start=True,
    ),
    ModelState.WARMING: StateMeaning(
        "The first worker of a release imports the model, loads artifacts and warms up.", _UNAVAILABLE, ready=False, holds_start=True
    ),
    ModelState.READY: StateMeaning("All workers of the releases that serve are ready.", _OK, ready=True, holds_start=False),
    ModelState.DEGRADED: StateMeaning(
        "It answers, but a worker of a release that serves is down, or the previous release answers in place of the newest.",
        _OK,
        ready=True,
        holds_start=False,
    ),
    ModelState.RESTARTING: StateMeaning(
        "No worker is left, and one starts again, perhaps after a delay.", _UNAVAILABLE, ready=False, holds_start=True
    ),
    ModelState.FAILED: StateMeaning(
        "No release can run: a worker could not load it, its base is missing, it was rolled back, or the machine lacks resources.",
        _UNAVAILABLE,
        ready=False,
        holds_start=True,
    ),
    ModelState.REFUSED: StateMeaning(
        "Each of its files was refused: it is damaged or unsuitable, or another model has one of its paths.",
        _UNAVAILABLE,
        ready=False,
        holds_start=False,
    ),
    ModelState.RETIRING: StateMeaning("Pexdock shuts down and still answers.", _OK, ready=False, holds_start=True),
}
"""The meaning of every state."""

POLICIES: Mapping[str, str] = {
    "started": (
        "Each model that was in `dist/` when Pexdock started has been ready once, and at least one model is ready now. A model whose files "
        "were all refused, and that never served on this machine, is not waited for."
    ),
    "all": "Each model in `dist/` is ready now.",
    "served": "Each model in `dist/` that has ever served on this machine is ready now, and at least one model is.",
    "any": "At least one model is ready now.",
    "NAME,NAME": "Each named model is ready now.",
}
"""The values of the setting `readiness`, and when the machine is ready by them."""


@dataclass(frozen=True)
class ModelFacts:
    """Facts about a model on which readiness depends.

    Attributes:
        state: Its state.
        at_start: Whether it was in dist/ when Pexdock started.
        was_ready: Whether it has been ready since Pexdock started.
        has_served: Whether it has ever served, by the stored state.
    """

    state: ModelState
    at_start: bool = True
    was_ready: bool = False
    has_served: bool = False


@dataclass(frozen=True)
class ReadinessPolicy:
    """The models that the machine's readiness waits for.

    Attributes:
        kind: A keyword of `POLICIES`, or "named".
        names: Normalized names of the models, for "named".
    """

    kind: str
    names: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> ReadinessPolicy:
        """Returns the policy of the setting `readiness`.

        Raises:
            ValueError: The text is neither a keyword nor a list of names.
        """
        if text in POLICIES and text.islower():
            return cls(text)
        names = [name.strip() for name in text.split(",")]
        if not all(name.isascii() and name.replace("-", "").replace("_", "").replace(".", "").isalnum() for name in names):
            raise ValueError("use started, all, served, any, or names of models with commas between them")
        return cls("named", tuple(canonicalize_name(name) for name in names))

    def required(self, models: Mapping[str, ModelFacts]) -> list[str]:
        """Returns the models that must be ready now."""
        return sorted(self.names) if self.kind == "named" else sorted(name for name, facts in models.items() if self._requires(facts))

    def needs_one(self, models: Mapping[str, ModelFacts]) -> bool:
        """Returns whether at least one model must be ready now. Without models there is nothing to wait for, except by the policy `any`."""
        in_dist = any(facts.state is not ModelState.UNKNOWN for facts in models.values())
        return self.kind == "any" or in_dist or any(facts.has_served for facts in models.values())

    def _requires(self, facts: ModelFacts) -> bool:
        if facts.state is ModelState.UNKNOWN:
            return False
        match self.kind:
            case "started":
                held = MEANINGS[facts.state].holds_start or (facts.state is ModelState.REFUSED and facts.has_served)
                return facts.at_start and not facts.was_ready and held
            case "all":
                return True
            case "served":
                return facts.has_served or facts.was_ready
            case _:
                return False


def machine_is_ready(ready: Iterable[str], required: Iterable[str], *, one_required: bool) -> bool:
    """Returns whether the machine is ready, given the models that are ready and those that must be."""
    found = set(ready)
    return found.issuperset(required) and (bool(found) or not one_required)
