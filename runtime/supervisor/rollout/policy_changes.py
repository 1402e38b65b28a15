"""Orders of operators, checked against the releases that are there. Pure: each gives a new `Traffic`, or refuses and says what to do.

A family is the live releases of one model, highest rank first.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from msgspec.structs import replace

from base.errors import Conflict, NotFound
from runtime.supervisor.rollout import traffic_policy as words
from runtime.supervisor.rollout.release import Release
from runtime.supervisor.rollout.traffic_plan import as_version, candidates, course, find, is_taken_back
from runtime.supervisor.rollout.traffic_policy import TrafficPolicy

SERVED_MAX = 10
"""So many releases that served before are remembered; nobody rolls back further."""


def checked(before: TrafficPolicy, after: TrafficPolicy, family: Sequence[Release]) -> TrafficPolicy:
    """`after`, with versions in the form that the releases have, once all that is new in it can be done.

    Raises:
        NotFound: a release that it names is not there.
        Conflict: it is there, and must not serve, or is not ready for a label.
    """
    if after.pin and after.pin != before.pin:
        after = replace(after, pin=_may_serve(after.pin, family, after))
    if after.split and after.split != before.split:
        after = _split(after, family)
    if after.shadow and after.shadow != before.shadow:
        after = replace(after, shadow=replace(after.shadow, to=_may_get_copies(after.shadow.to, family, after)))
    for label, version in after.labels.items():
        if before.labels.get(label) != version:
            after = words.labelled(after, label, _is_ready(label, version, family, after))
    return after


def promoted(traffic: TrafficPolicy, name: str | None, family: Sequence[Release]) -> TrafficPolicy:
    """The release of a version or label serves all; without a name the newest does, also if it was taken back.

    Raises:
        NotFound: it is not there.
    """
    release = _found(name, family, traffic) if name else family[0]
    forgiven = words.promoted(traffic, release.version, release.sha256, newest=True)
    newest = candidates(family, forgiven)[0] is release
    return words.promoted(traffic, release.version, release.sha256, newest=newest)


def previous(traffic: TrafficPolicy, family: Sequence[Release], but: Collection[Release]) -> Release | None:
    """The release that served last, but for these and for what was taken back."""
    for sha256 in reversed(traffic.served):
        for release in family:
            if release.sha256 == sha256 and release not in but and not is_taken_back(release, traffic):
                return release
    return None


def rolled_back(traffic: TrafficPolicy, family: Sequence[Release], serving: Sequence[Release], reason: str) -> TrafficPolicy:
    """What served before the releases that serve now serves all, and those of them that stand above it are taken back.

    Raises:
        Conflict: nothing served before.
    """
    target = previous(traffic, family, serving if len(serving) == 1 else ())
    if target is None:
        raise Conflict("nothing that is still there served before it; promote another release, or drop one")
    after = replace(traffic, pin="", split=None)
    hidden = False  # one that never served would take over from the target
    for release in candidates(family, after):
        if release is target:
            break
        if release in serving:
            after = words.taken_back(after, release.sha256, reason)
        elif not is_taken_back(release, after):
            hidden = True
    return words.pinned(after, target.version) if hidden else after


def relieved(traffic: TrafficPolicy, sha256: str) -> TrafficPolicy:
    """A release served all, and nothing was found against it."""
    return replace(traffic, served=[*(each for each in traffic.served if each != sha256), sha256][-SERVED_MAX:])


def _split(traffic: TrafficPolicy, family: Sequence[Release]) -> TrafficPolicy:
    assert traffic.split is not None
    weights = {_may_serve(name, family, traffic): weight for name, weight in traffic.split.weights.items()}
    releases = {find(name, family, traffic) for name in weights}
    if len(releases) < len(traffic.split.weights):
        raise Conflict("two names in the split mean the same release; name each once")
    return words.split(traffic, weights, traffic.split.by)


def _may_serve(name: str, family: Sequence[Release], traffic: TrafficPolicy) -> str:
    release = _found(name, family, traffic)
    if is_taken_back(release, traffic):
        raise Conflict(f"{release.title} was taken back: {traffic.taken_back[release.sha256]}; promote it to have it serve again")
    return _normal(name, family, traffic)


def _may_get_copies(name: str, family: Sequence[Release], traffic: TrafficPolicy) -> str:
    release = _found(name, family, traffic)
    if release in [serving for serving, _ in course(family, traffic).shares]:
        raise Conflict(f"{release.title} serves already; copies go to a release that does not: pin another one first")
    return _normal(name, family, traffic)


def _is_ready(label: str, version: str, family: Sequence[Release], traffic: TrafficPolicy) -> str:
    if as_version(version) is None:
        raise Conflict(f"{version!r} is no version; a label stands for one")
    release = _found(version, family, traffic)
    if not release.serves or is_taken_back(release, traffic):
        raise Conflict(f"{release.title} is not ready, and {label} moves only to what is: give it a share or copies first")
    return release.version


def _normal(name: str, family: Sequence[Release], traffic: TrafficPolicy) -> str:
    """A label as it is, a version as its release has it."""
    release = _found(name, family, traffic)
    return name if name in traffic.labels else release.version


def _found(name: str, family: Sequence[Release], traffic: TrafficPolicy) -> Release:
    release = find(name, family, traffic)
    if release is None:
        there = ", ".join([*dict.fromkeys(each.version for each in family), *traffic.labels]) or "none"
        raise NotFound(f"there is no release {name} that could serve; there are {there}")
    return release
