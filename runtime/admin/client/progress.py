"""The progress of a deployed pex, or of a traffic change, derived from the state of the supervisor. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from packaging.utils import canonicalize_name
from packaging.version import Version

from runtime.supervisor.status.state import ModelReport, ReleaseReport, State, TrafficShare


class Outcome(StrEnum):
    """The outcome of a deployment or a change. The values are part of `pexdock deploy --json`."""

    SERVES = "serves"
    STANDS_BY = "stands by"
    REFUSED = "refused"
    FAILED = "failed"
    ROLLED_BACK = "taken back"
    TIMEOUT = "timeout"

    @property
    def label(self) -> str:
        """Returns the outcome as people call it."""
        return "rolled back" if self is Outcome.ROLLED_BACK else self.value


class DeployedFile(NamedTuple):
    """A file that was put into dist/: its name, its digest, and the highest order of a release before it."""

    file: str
    sha256: str
    after_order: int


class Stage(NamedTuple):
    """A stage on the way to an outcome. `outcome` is None until it is known; `release` is None while there is none."""

    text: str
    outcome: Outcome | None = None
    release: ReleaseReport | None = None


WAITING_FOR_FILE = Stage("waits until the file is stable")


def deploy_stage(state: State, deployed: DeployedFile, *, wait_probation: bool) -> Stage:
    """Returns the stage of a deployed pex.

    Args:
        state: State of the supervisor.
        deployed: The pex.
        wait_probation: The outcome is known only once its probation is over.
    """
    release = _release(state, deployed)
    if release is None:
        return WAITING_FOR_FILE
    if release.state in {Outcome.REFUSED, Outcome.FAILED}:
        return Stage(release.reason, Outcome(release.state), release)
    if release.kind == "base" and release.state == "ready":
        return Stage("is available to models", Outcome.SERVES, release)
    model = next((model for model in state.models if model.name == canonicalize_name(release.name)), None)
    found = _stage_in_traffic(model, release, wait_probation=wait_probation) if model is not None and release.sha256 else None
    if found is None and model is not None and release.state == "kept" and (reason := _kept_reason(state, model, release)):
        return Stage(reason, Outcome.STANDS_BY, release)
    return found or Stage(_state_text(release), None, release)


def order_stage(state: State, order: ModelReport) -> Stage:
    """Returns the stage of a traffic change.

    Args:
        state: State of the supervisor after the change.
        order: Report of the model right after the change.
    """
    model = next((model for model in state.models if model.name == order.name), None)
    if model is not None and _weights(model.serving) == _weights(order.desired) and state.applied_generation >= state.generation:
        return Stage("is in force", Outcome.SERVES)
    releases = {release.sha256: release for release in state.releases if release.sha256}
    for share in order.desired:
        if failed := _failure(model, share, releases.get(share.sha256)):
            return failed
    assert model is not None  # one of its releases exists
    if _weights(model.desired) != _weights(order.desired):
        return Stage("superseded by another change or a newer release", Outcome.STANDS_BY)
    serving = _weights(model.serving)
    coming = [f"{share.version} is {_state_text(releases[share.sha256])}" for share in order.desired if share.sha256 not in serving]
    return Stage(f"waits: {', '.join(coming) or 'front doors have not applied it yet'}")


def mirror_stage(state: State, order: ModelReport) -> Stage:
    """Returns the stage of an order to mirror requests. Arguments as in `order_stage`."""
    model = next((model for model in state.models if model.name == order.name), None)
    if model is None or model.shadow_sha256 != order.shadow_sha256:
        return Stage("superseded by another change", Outcome.STANDS_BY)
    if model.shadow_in_force and state.applied_generation >= state.generation:
        return Stage("is in force", Outcome.SERVES)
    release = next(release for release in state.releases if release.sha256 == order.shadow_sha256)
    if release.state in {Outcome.REFUSED, Outcome.FAILED}:
        return Stage(f"{release.version}: {release.reason}", Outcome(release.state), release)
    return Stage(f"waits: {release.version} is {_state_text(release)}")


def _weights(shares: Sequence[TrafficShare]) -> dict[str, float]:
    return {share.sha256: share.percent for share in shares}


def _failure(model: ModelReport | None, share: TrafficShare, release: ReleaseReport | None) -> Stage | None:
    if model is None or release is None:
        return Stage(f"{share.version} no longer exists", Outcome.FAILED)
    if release.state in {Outcome.REFUSED, Outcome.FAILED}:
        return Stage(f"{share.version}: {release.reason}", Outcome(release.state), release)
    rolled_back = next((each for each in model.rolled_back if each.sha256 == share.sha256), None)
    return Stage(f"{share.version}: {rolled_back.reason}", Outcome.ROLLED_BACK, release) if rolled_back else None


def _state_text(release: ReleaseReport) -> str:
    return f"{release.state}{release.reason and f': {release.reason}'}"


def _release(state: State, deployed: DeployedFile) -> ReleaseReport | None:
    """Returns the release with this digest, or, before the digest is known, the newest one of this file. Earlier failures are retried."""
    found = [
        release
        for release in state.releases
        if (release.order > deployed.after_order and deployed.file == release.file)
        or (release.sha256 == deployed.sha256 and release.state not in {Outcome.REFUSED, Outcome.FAILED})
    ]
    return max(found, key=lambda release: (release.sha256 == deployed.sha256, release.order), default=None)


def _stage_in_traffic(model: ModelReport, release: ReleaseReport, *, wait_probation: bool) -> Stage | None:
    rolled_back = next((each for each in model.rolled_back if each.sha256 == release.sha256), None)
    if rolled_back is not None:
        return Stage(rolled_back.reason, Outcome.ROLLED_BACK, release)
    if release.state == "ready" and any(share.sha256 == release.sha256 for share in model.serving):
        watched = next((each for each in model.probation if each.version == release.version), None)
        if wait_probation and watched is not None:
            return Stage(f"serves, on probation until {watched.until}", None, release)
        return Stage(_serving_text(model, release), Outcome.SERVES, release)
    if release.state in {"standby", "ready"} and (reason := _standby_reason(model, release)):
        return Stage(reason, Outcome.STANDS_BY, release)
    return None


def _serving_text(model: ModelReport, release: ReleaseReport) -> str:
    percent = next(share.percent for share in model.serving if share.sha256 == release.sha256)
    return f"serves at {' '.join(release.paths)}" + (f", {percent:g} % of the requests" if percent < 100 else "")


def _standby_reason(model: ModelReport, release: ReleaseReport) -> str:
    """Returns why another release serves; empty if that may still change without an operator."""
    if model.pin:
        return f"{model.name} is pinned to {model.pin}"
    if model.split:
        return f"traffic of {model.name} is split between {', '.join(model.split)}"
    return release.reason if release.state == "standby" else ""


def _kept_reason(state: State, model: ModelReport, release: ReleaseReport) -> str:
    """Returns why a release that is kept for a rollback does not serve; empty if its file had other content, as it may then take over."""
    rejected = {Outcome.REFUSED, Outcome.FAILED}
    if any(each.file == release.file and each.sha256 != release.sha256 and each.state not in rejected for each in state.releases):
        return ""
    is_older = model.serving and all(Version(share.version) > Version(release.version) for share in model.serving)
    return _standby_reason(model, release) or ("a newer release of the model is there" if is_older else "")
