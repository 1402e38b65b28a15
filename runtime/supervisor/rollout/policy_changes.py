"""Changes traffic policies by rules that depend on the existing releases. Pure: each returns a new policy, or raises and says what to do.

`releases` are always the verified releases of one model, with the highest rank first.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from msgspec.structs import replace

from base.errors import Conflict, NotFound
from runtime.supervisor.rollout.release import Release
from runtime.supervisor.rollout.traffic_plan import find_release, is_rolled_back, parse_version, plan_traffic, ranked_candidates
from runtime.supervisor.rollout.traffic_policy import TrafficPolicy, with_label, with_pin, with_promotion, with_rolled_back, with_split

SERVED_MAX = 10
"""Number of previously serving releases that are remembered. Nobody rolls back further."""


def validate_change(before: TrafficPolicy, after: TrafficPolicy, releases: Sequence[Release]) -> TrafficPolicy:
    """Checks that all changes from `before` to `after` are possible. Returns `after` with normalized versions.

    Parts that have not changed are not checked again, so that one wrong order can be corrected while another one is wrong.

    Raises:
        NotFound: A named release does not exist.
        Conflict: A named release exists but must not serve, or is not ready for a label.
    """
    if after.pin and after.pin != before.pin:
        after = replace(after, pin=_normalize_serving(after.pin, releases, after))
    if after.split and after.split != before.split:
        after = _normalize_split(after, releases)
    if after.shadow and after.shadow != before.shadow:
        after = replace(after, shadow=replace(after.shadow, to=_normalize_mirror(after.shadow.to, releases, after)))
    for label, version in after.labels.items():
        if before.labels.get(label) != version:
            after = with_label(after, label, _normalize_labelled(label, version, releases, after))
    return after


def promote_release(policy: TrafficPolicy, name: str | None, releases: Sequence[Release]) -> TrafficPolicy:
    """Returns the policy by which the release of a version or label, or without a name the newest release, serves all requests.

    A release that was rolled back can be promoted.

    Raises:
        NotFound: The release does not exist.
    """
    release = _require_release(name, releases, policy) if name else releases[0]
    forgiven = with_promotion(policy, release.version, release.sha256, newest=True)
    newest = ranked_candidates(releases, forgiven)[0] is release
    return with_promotion(policy, release.version, release.sha256, newest=newest)


def previous_release(policy: TrafficPolicy, releases: Sequence[Release], excluded: Collection[Release]) -> Release | None:
    """Returns the release that served last, except excluded and rolled-back releases."""
    for sha256 in reversed(policy.served):
        for release in releases:
            if release.sha256 == sha256 and release not in excluded and not is_rolled_back(release, policy):
                return release
    return None


def roll_back_to_previous(policy: TrafficPolicy, releases: Sequence[Release], serving: Sequence[Release], reason: str) -> TrafficPolicy:
    """Returns the policy by which the previous release serves all requests. Serving releases that rank above it are rolled back.

    Raises:
        Conflict: No release served before.
    """
    target = previous_release(policy, releases, serving if len(serving) == 1 else ())
    if target is None:
        raise Conflict("no release that served before is left; promote another release, or deploy a corrected one")
    after = replace(policy, pin="", split=None)
    outranked = False  # by a release that never served and would take over from the target
    for release in ranked_candidates(releases, after):
        if release is target:
            break
        if release in serving:
            after = with_rolled_back(after, release.sha256, reason)
        elif not is_rolled_back(release, after):
            outranked = True
    return with_pin(after, target.version) if outranked else after


def record_served(policy: TrafficPolicy, sha256: str) -> TrafficPolicy:
    """Returns the policy that remembers a release as the last one that served all requests without failing."""
    return replace(policy, served=[*(each for each in policy.served if each != sha256), sha256][-SERVED_MAX:])


def _normalize_split(policy: TrafficPolicy, releases: Sequence[Release]) -> TrafficPolicy:
    assert policy.split is not None
    weights = {_normalize_serving(name, releases, policy): weight for name, weight in policy.split.weights.items()}
    named = {find_release(name, releases, policy) for name in weights}
    if len(named) < len(policy.split.weights):
        raise Conflict("two names in the split mean the same release; name each release once")
    return with_split(policy, weights, policy.split.by)


def _normalize_serving(name: str, releases: Sequence[Release], policy: TrafficPolicy) -> str:
    release = _require_release(name, releases, policy)
    _check_not_rolled_back(release, policy)
    return _normalize_name(name, releases, policy)


def _check_not_rolled_back(release: Release, policy: TrafficPolicy) -> None:
    if is_rolled_back(release, policy):
        raise Conflict(f"{release.title} was rolled back: {policy.rolled_back[release.sha256]}; promote it to let it serve again")


def _normalize_mirror(name: str, releases: Sequence[Release], policy: TrafficPolicy) -> str:
    release = _require_release(name, releases, policy)
    if release in [serving for serving, _ in plan_traffic(releases, policy).shares]:
        raise Conflict(f"{release.title} already serves, and requests are mirrored to a release that does not: pin another release first")
    return _normalize_name(name, releases, policy)


def _normalize_labelled(label: str, version: str, releases: Sequence[Release], policy: TrafficPolicy) -> str:
    if parse_version(version) is None:
        raise Conflict(f"{version!r} is not a version; a label needs one")
    release = _require_release(version, releases, policy)
    _check_not_rolled_back(release, policy)
    if not release.serves:
        raise Conflict(f"{release.title} is not ready, so label {label} cannot move to it: give it part of a split or a shadow first")
    return release.version


def _normalize_name(name: str, releases: Sequence[Release], policy: TrafficPolicy) -> str:
    """Returns a label unchanged, and a version in the spelling of its release."""
    release = _require_release(name, releases, policy)
    return name if name in policy.labels else release.version


def _require_release(name: str, releases: Sequence[Release], policy: TrafficPolicy) -> Release:
    release = find_release(name, releases, policy)
    if release is None:
        known = ", ".join([*dict.fromkeys(each.version for each in releases), *policy.labels]) or "none"
        raise NotFound(f"there is no release {name} that could serve; there are {known}")
    return release
