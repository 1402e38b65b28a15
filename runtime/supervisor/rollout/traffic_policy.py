"""What operators say about the requests of a model: pinned, split, copied, labelled, taken back. Pure; versions are texts in normal form.

Without a word the newest release serves all. Every function gives a new `Traffic` or refuses; what a word means for the releases that are
there is decided in `routing`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from base.errors import Conflict

STABLE = "stable"
"""The label of what serves; unless it was set, that is what the rule for releases says."""

WEIGHT_MAX = 10_000

TAKEN_BACK_MAX = 50
"""So many are remembered of a model, the last ones; older ones have long been followed by newer releases."""

LABEL_PATTERN = "[a-z][a-z0-9-]{0,31}"
BY_PATTERN = r"header:[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}|parameter:[^\W\d]\w{0,127}|column:[^\s:\x00-\x1f\x7f][^\x00-\x1f\x7f]{0,127}"
"""Names that headers and parameters can have, and columns without control characters."""

_LABEL = re.compile(LABEL_PATTERN)
_BY = re.compile(BY_PATTERN)


class Split(msgspec.Struct, frozen=True):
    """Requests are shared among releases.

    Attributes:
        weights: version or label → weight, 1 or more; two or more of them.
        by: what keeps a client with one release: "" (nothing), "header:NAME", "parameter:NAME" or "column:NAME".
    """

    weights: dict[str, int]
    by: str = ""


class Shadow(msgspec.Struct, frozen=True):
    """A part of the requests is copied to the release of a version or label, and its answers are compared and dropped."""

    to: str
    percent: float = 100.0


class TrafficPolicy(msgspec.Struct, frozen=True):
    """All that was said about one model.

    Attributes:
        pin: the version or label that serves, whatever is dropped; "" for the newest.
        split: None where one release serves all.
        shadow: None where nothing is copied.
        labels: label → version.
        taken_back: sha256 of a release → why. It does not serve until somebody promotes it.
        served: sha256 of the releases that served before, the last one last; a few of them.
    """

    pin: str = ""
    split: Split | None = None
    shadow: Shadow | None = None
    labels: dict[str, str] = {}
    taken_back: dict[str, str] = {}
    served: list[str] = []

    def version(self, name: str) -> str:
        """The version that a label stands for; a version stands for itself."""
        return self.labels.get(name, name)

    def names(self) -> set[str]:
        """Versions and labels, beside the labels themselves, that must be running for this to be done."""
        split = set(self.split.weights) if self.split else set()
        return split | ({self.pin} if self.pin else set()) | ({self.shadow.to} if self.shadow else set())


def pinned(traffic: TrafficPolicy, name: str) -> TrafficPolicy:
    """`name` serves all, whatever is dropped."""
    return replace(traffic, pin=name, split=None)


def unpinned(traffic: TrafficPolicy) -> TrafficPolicy:
    """The newest serves again."""
    return replace(traffic, pin="")


def split(traffic: TrafficPolicy, weights: Mapping[str, int], by: str = "") -> TrafficPolicy:
    """Requests are shared.

    Raises:
        Conflict: it says nothing that could be done.
    """
    if len(weights) < 2:
        raise Conflict("a split needs two releases or more; to have one serve all, pin or promote it")
    for name, weight in weights.items():
        if not 1 <= weight <= WEIGHT_MAX:
            raise Conflict(f"the weight of {name} is {weight}, and must be from 1 to {WEIGHT_MAX}; leave out what should get nothing")
    if by and not _BY.fullmatch(by):
        raise Conflict(f"{by!r} is not header:NAME, parameter:NAME or column:NAME")
    return replace(traffic, split=Split(dict(weights), by), pin="")


def unsplit(traffic: TrafficPolicy) -> TrafficPolicy:
    """One release serves all again."""
    return replace(traffic, split=None)


def shadowed(traffic: TrafficPolicy, to: str, percent: float) -> TrafficPolicy:
    """Requests are copied.

    Raises:
        Conflict: the percentage is none.
    """
    if not 0 < percent <= 100:
        raise Conflict(f"{percent:g} % cannot be copied; more than 0 and up to 100 can")
    return replace(traffic, shadow=Shadow(to, percent))


def unshadowed(traffic: TrafficPolicy) -> TrafficPolicy:
    """Nothing is copied any more."""
    return replace(traffic, shadow=None)


def labelled(traffic: TrafficPolicy, label: str, version: str) -> TrafficPolicy:
    """`label` stands for `version`. That its release is ready, the caller has made sure of.

    Raises:
        Conflict: it is no name for a label.
    """
    _refuse_label(label)
    return replace(traffic, labels=traffic.labels | {label: version})


def unlabelled(traffic: TrafficPolicy, label: str) -> TrafficPolicy:
    """`label` stands for nothing any more.

    Raises:
        Conflict: it is no name for a label, or something else is said by means of it.
    """
    _refuse_label(label)
    if label in traffic.names():
        raise Conflict(f"{label} is used by a pin, a split or a shadow; end that first")
    return replace(traffic, labels={name: version for name, version in traffic.labels.items() if name != label})


def taken_back(traffic: TrafficPolicy, sha256: str, reason: str) -> TrafficPolicy:
    """A release does not serve until it is promoted."""
    remembered = [*((each, why) for each, why in traffic.taken_back.items() if each != sha256), (sha256, reason)]
    return replace(traffic, taken_back=dict(remembered[-TAKEN_BACK_MAX:]))


def promoted(traffic: TrafficPolicy, version: str, sha256: str, *, newest: bool) -> TrafficPolicy:
    """`version` serves all: as the newest, if it is that, else pinned. What was said of it before is forgotten."""
    copied = traffic.shadow is not None and traffic.version(traffic.shadow.to) == version
    return replace(
        traffic,
        pin="" if newest else version,
        split=None,
        shadow=None if copied else traffic.shadow,
        taken_back={digest: reason for digest, reason in traffic.taken_back.items() if digest != sha256},
    )


def _refuse_label(label: str) -> None:
    if not _LABEL.fullmatch(label):
        raise Conflict(f"{label!r} is no label: small letters, digits and -, a letter first, 32 at most")
