"""How far a pex has come that was dropped, or an order of an operator, as the state tells it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from packaging.utils import canonicalize_name

from runtime.supervisor.status.state import ModelReport, ReleaseReport, State, TrafficShare


class Outcome(StrEnum):
    """How it ends."""

    SERVES = "serves"
    STANDS_BY = "stands by"
    REFUSED = "refused"
    FAILED = "failed"
    TAKEN_BACK = "taken back"
    TIMEOUT = "timeout"


class DeployedFile(NamedTuple):
    """What was dropped: the file's name in dist/, its digest, and the highest order of a drop before."""

    file: str
    sha256: str
    after_order: int


class Stage(NamedTuple):
    """Where it stands. `outcome` is None on the way; `release` is None while nothing is known of it."""

    text: str
    outcome: Outcome | None = None
    release: ReleaseReport | None = None


def deploy_stage(state: State, drop: DeployedFile, *, prove: bool) -> Stage:
    """Where a dropped pex stands.

    Args:
        state: of the supervisor.
        drop: which.
        prove: it serves only once its probation is over.
    """
    release = _release(state, drop)
    if release is None:
        return Stage("waits until the file stays as it is")
    if release.state in {Outcome.REFUSED, Outcome.FAILED}:
        return Stage(release.reason, Outcome(release.state), release)
    if release.kind == "base" and release.state == "ready":
        return Stage("is there for models to run on", Outcome.SERVES, release)
    model = next((model for model in state.models if model.name == canonicalize_name(release.name)), None)
    found = _by_model(model, release, prove=prove) if model is not None and release.sha256 else None
    return found or Stage(_standing(release), None, release)


def order_stage(state: State, order: ModelReport) -> Stage:
    """Where an order stands.

    Args:
        state: of the supervisor, since it was given.
        order: what was said of the model just then.
    """
    model = next((model for model in state.models if model.name == order.name), None)
    if model is not None and _weights(model.serves) == _weights(order.wanted) and state.applied >= state.generation:
        return Stage("is in force", Outcome.SERVES)
    releases = {release.sha256: release for release in state.releases if release.sha256}
    for share in order.wanted:
        if failed := _failure(model, share, releases.get(share.sha256)):
            return failed
    assert model is not None  # a release of it is there
    if _weights(model.wanted) != _weights(order.wanted):
        return Stage("something else was ordered since, or dropped", Outcome.STANDS_BY)
    serving = _weights(model.serves)
    coming = [f"{share.version} is {_standing(releases[share.sha256])}" for share in order.wanted if share.sha256 not in serving]
    return Stage(f"waits: {', '.join(coming) or 'front doors do not have it yet'}")


def _weights(shares: Sequence[TrafficShare]) -> dict[str, float]:
    return {share.sha256: share.percent for share in shares}


def _failure(model: ModelReport | None, share: TrafficShare, release: ReleaseReport | None) -> Stage | None:
    if model is None or release is None:
        return Stage(f"{share.version} is not there any more", Outcome.FAILED)
    if release.state in {Outcome.REFUSED, Outcome.FAILED}:
        return Stage(f"{share.version}: {release.reason}", Outcome(release.state), release)
    taken = next((each for each in model.taken_back if each.sha256 == share.sha256), None)
    return Stage(f"{share.version}: {taken.reason}", Outcome.TAKEN_BACK, release) if taken else None


def _standing(release: ReleaseReport) -> str:
    return f"{release.state}{release.reason and f': {release.reason}'}"


def _release(state: State, drop: DeployedFile) -> ReleaseReport | None:
    """The release of this content; before its digest is known, what came under its name since. What failed before is tried anew."""
    found = [
        release
        for release in state.releases
        if (release.order > drop.after_order and drop.file == release.file)
        or (release.sha256 == drop.sha256 and release.state not in {Outcome.REFUSED, Outcome.FAILED})
    ]
    return max(found, key=lambda release: (release.sha256 == drop.sha256, release.order), default=None)


def _by_model(model: ModelReport, release: ReleaseReport, *, prove: bool) -> Stage | None:
    taken = next((each for each in model.taken_back if each.sha256 == release.sha256), None)
    if taken is not None:
        return Stage(taken.reason, Outcome.TAKEN_BACK, release)
    if release.state == "ready" and any(share.sha256 == release.sha256 for share in model.serves):
        watched = next((each for each in model.probation if each.version == release.version), None)
        if prove and watched is not None:
            return Stage(f"serves, on probation until {watched.until}", None, release)
        return Stage(_share(model, release), Outcome.SERVES, release)
    if release.state in {"standby", "ready"} and (reason := _kept_back(model, release)):
        return Stage(reason, Outcome.STANDS_BY, release)
    return None


def _share(model: ModelReport, release: ReleaseReport) -> str:
    percent = next(share.percent for share in model.serves if share.sha256 == release.sha256)
    return f"serves at {' '.join(release.paths)}" + (f", {percent:g} % of the requests" if percent < 100 else "")


def _kept_back(model: ModelReport, release: ReleaseReport) -> str:
    """Why something else serves; empty where that may still change by itself."""
    if model.pin:
        return f"{model.name} is pinned to {model.pin}"
    if model.split:
        return f"the requests of {model.name} are split among {', '.join(model.split)}"
    return release.reason if release.state == "standby" else ""
