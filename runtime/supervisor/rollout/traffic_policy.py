"""The traffic policy of a model: pin, split, shadow, labels and rolled-back releases. Pure.

Without a policy, the newest release serves all requests. Every function returns a new policy or raises. `traffic_plan` applies a policy to
the existing releases. Versions are normalized texts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from base.errors import Conflict

STABLE = "stable"
"""The label of the serving release. It is reserved; only a policy that was stored by release 0.1.0 may have it on another release."""

WEIGHT_MAX = 10_000

ROLLED_BACK_MAX = 50
"""Number of rolled-back releases that are remembered per model. Older ones were replaced by newer releases long ago."""

LABEL_PATTERN = "[a-z][a-z0-9-]{0,31}"
BY_PATTERN = r"header:[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}|parameter:[^\W\d]\w{0,127}|column:[^\s:\x00-\x1f\x7f][^\x00-\x1f\x7f]{0,127}"
"""Valid names of headers and parameters, and of columns without control characters."""

_LABEL = re.compile(LABEL_PATTERN)
_BY = re.compile(BY_PATTERN)


class Split(msgspec.Struct, frozen=True):
    """A split of the requests between releases.

    Attributes:
        weights: Version or label → weight of 1 or more; at least two entries.
        by: Key that keeps a client on one release: "header:NAME", "parameter:NAME" or "column:NAME"; "" for none.
    """

    weights: dict[str, int]
    by: str = ""


class Shadow(msgspec.Struct, frozen=True):
    """The mirroring of a percentage of requests to the release of a version or label, whose responses are compared and dropped."""

    to: str
    percent: float = 100.0


class TrafficPolicy(msgspec.Struct, frozen=True):
    """The traffic policy of one model.

    Attributes:
        pin: Version or label that serves all requests, even if newer releases are dropped; "" for the newest.
        split: The split between releases; None if one release serves all requests.
        shadow: The mirror; None for none.
        labels: Label → version.
        rolled_back: sha256 of a release → reason. The release does not serve until it is promoted.
        served: sha256 of the last releases that served alone, with the latest last.
    """

    pin: str = ""
    split: Split | None = None
    shadow: Shadow | None = None
    labels: dict[str, str] = {}
    rolled_back: dict[str, str] = msgspec.field(default_factory=dict, name="taken_back")
    served: list[str] = []

    def version_of(self, name: str) -> str:
        """Returns the version of a label. Returns a version unchanged."""
        return self.labels.get(name, name)

    def used_names(self) -> set[str]:
        """Returns the versions and labels that the pin, the split and the shadow use."""
        split = set(self.split.weights) if self.split else set()
        return split | ({self.pin} if self.pin else set()) | ({self.shadow.to} if self.shadow else set())


def with_pin(policy: TrafficPolicy, name: str) -> TrafficPolicy:
    """Returns the policy by which `name` serves all requests, even if newer releases are dropped."""
    return replace(policy, pin=name, split=None)


def without_pin(policy: TrafficPolicy) -> TrafficPolicy:
    """Returns the policy by which the newest release serves again."""
    return replace(policy, pin="")


def with_split(policy: TrafficPolicy, weights: Mapping[str, int], by: str = "") -> TrafficPolicy:
    """Returns the policy with a split.

    Raises:
        Conflict: The weights or the key are not valid.
    """
    if len(weights) < 2:
        raise Conflict("a split needs at least two releases; to send all requests to one, pin or promote it")
    for name, weight in weights.items():
        if not 1 <= weight <= WEIGHT_MAX:
            raise Conflict(f"the weight of {name} is {weight}, but must be from 1 to {WEIGHT_MAX}; leave out releases without requests")
    if by and not _BY.fullmatch(by):
        raise Conflict(f"{by!r} is not header:NAME, parameter:NAME or column:NAME")
    return replace(policy, split=Split(dict(weights), by), pin="")


def without_split(policy: TrafficPolicy) -> TrafficPolicy:
    """Returns the policy by which one release serves all requests again."""
    return replace(policy, split=None)


def with_shadow(policy: TrafficPolicy, to: str, percent: float) -> TrafficPolicy:
    """Returns the policy with a mirror.

    Raises:
        Conflict: The percentage is not valid.
    """
    if not 0 < percent <= 100:
        raise Conflict(f"cannot mirror {percent:g} % of the requests: use more than 0 and at most 100")
    return replace(policy, shadow=Shadow(to, percent))


def without_shadow(policy: TrafficPolicy) -> TrafficPolicy:
    """Returns the policy without a mirror."""
    return replace(policy, shadow=None)


def with_label(policy: TrafficPolicy, label: str, version: str) -> TrafficPolicy:
    """Returns the policy with `label` on `version`. The caller ensures that its release is ready.

    Raises:
        Conflict: The label is not valid, or is reserved.
    """
    _check_label(label)
    if label == STABLE:
        raise Conflict(f"label {STABLE} is reserved: it is always on the release that serves by default; choose another name")
    return replace(policy, labels=policy.labels | {label: version})


def without_label(policy: TrafficPolicy, label: str) -> TrafficPolicy:
    """Returns the policy without `label`.

    Raises:
        Conflict: The label is not valid, or is in use.
    """
    _check_label(label)
    if label in policy.used_names():
        raise Conflict(f"label {label} is used by a pin, a split or a shadow; remove that first")
    return replace(policy, labels={name: version for name, version in policy.labels.items() if name != label})


def with_rolled_back(policy: TrafficPolicy, sha256: str, reason: str) -> TrafficPolicy:
    """Returns the policy by which a release does not serve until it is promoted."""
    remembered = [*((each, why) for each, why in policy.rolled_back.items() if each != sha256), (sha256, reason)]
    return replace(policy, rolled_back=dict(remembered[-ROLLED_BACK_MAX:]))


def with_promotion(policy: TrafficPolicy, version: str, sha256: str, *, newest: bool) -> TrafficPolicy:
    """Returns the policy by which `version` serves all requests, without earlier orders that prevent this.

    The newest release serves without a pin, so that the next drop takes over from it. Any other release is pinned.
    """
    mirrored = policy.shadow is not None and policy.version_of(policy.shadow.to) == version
    return replace(
        policy,
        pin="" if newest else version,
        split=None,
        shadow=None if mirrored else policy.shadow,
        rolled_back={digest: reason for digest, reason in policy.rolled_back.items() if digest != sha256},
    )


def _check_label(label: str) -> None:
    if not _LABEL.fullmatch(label):
        raise Conflict(f"{label!r} is not a label: use at most 32 lower-case letters, digits and hyphens, beginning with a letter")
