"""The progress of a deployed pex and of a traffic change, as the commands derive it from the state."""

from __future__ import annotations

from runtime.admin.client.progress import DeployedFile, Outcome, deploy_stage, mirror_stage, order_stage
from runtime.supervisor.status.state import ModelReport, ProbationReport, ReleaseReport, RolledBackRelease, State, TrafficShare

DEPLOYED = DeployedFile("tiny-0.2.0.pex", "new", 3)


def release(order: int, state: str, sha256: str = "", reason: str = "", **known: object) -> ReleaseReport:
    identity = {"kind": "model", "name": "Tiny", "version": "0.2.0"} if sha256 else {}
    given = {"file": DEPLOYED.file, "order": order, "state": state, "since": "", "sha256": sha256, "reason": reason}
    return ReleaseReport(**given | identity | known)


def progress(*releases: ReleaseReport, wait_probation: bool = False, **model: object) -> tuple[Outcome | None, str]:
    models = [ModelReport(name="tiny", **model)] if model else []
    found = deploy_stage(State(dist_path="", releases=list(releases), models=models), DEPLOYED, wait_probation=wait_probation)
    return found.outcome, found.text


SERVES = [TrafficShare("0.2.0", "new", 100.0)]
OTHER = [TrafficShare("0.1.0", "old", 100.0)]


def test_the_file_must_be_stable_before_its_release_is_known() -> None:
    """An earlier release of the same file name has other content."""
    assert progress() == (None, "waits until the file is stable")
    assert progress(release(3, "ready", "old"), serving=OTHER) == (None, "waits until the file is stable")
    assert progress(release(3, "failed", "new", "broken"))[0] is None  # it is retried
    assert progress(release(3, "refused", reason="no zip"))[0] is None


def test_a_new_release_of_the_same_file_name_is_followed() -> None:
    """By its name before its digest is known, and by its digest afterwards."""
    assert progress(release(4, "verifying")) == (None, "verifying")
    assert progress(release(4, "refused", reason="no zip")) == (Outcome.REFUSED, "no zip")
    assert progress(release(4, "waiting", "new", "there is no base"), serving=OTHER) == (None, "waiting: there is no base")
    assert progress(release(4, "failed", "new", "broken"), release(3, "ready", "old"), serving=OTHER) == (Outcome.FAILED, "broken")


def test_it_serves_once_requests_reach_it() -> None:
    """Being ready is not enough; content that serves already is, under any name."""
    assert progress(release(4, "ready", "new"), serving=OTHER)[0] is None
    assert progress(release(4, "starting", "new"), serving=SERVES)[0] is None
    assert progress(release(4, "ready", "new", paths=["/tiny"]), serving=SERVES) == (Outcome.SERVES, "serves at /tiny")
    assert progress(release(2, "ready", "new", file="other.pex"), serving=SERVES)[0] is Outcome.SERVES
    shared = [TrafficShare("0.1.0", "old", 90.0), TrafficShare("0.2.0", "new", 10.0)]
    assert progress(release(4, "ready", "new", paths=["/a", "/b"]), serving=shared) == (
        Outcome.SERVES,
        "serves at /a /b, 10 % of the requests",
    )


def test_the_end_of_a_probation_is_awaited_on_request() -> None:
    """A release that is rolled back in its probation does not serve."""
    watched = {"serving": SERVES, "probation": [ProbationReport("0.2.0", "noon", 5, 0, 0)]}
    assert progress(release(4, "ready", "new"), **watched)[0] is Outcome.SERVES
    assert progress(release(4, "ready", "new"), **watched, wait_probation=True) == (None, "serves, on probation until noon")
    rolled_back = {"serving": OTHER, "rolled_back": [RolledBackRelease("0.2.0", "new", "9 of 20 requests failed")]}
    assert progress(release(4, "ready", "new"), **rolled_back) == (Outcome.ROLLED_BACK, "9 of 20 requests failed")


def test_a_release_on_standby_comes_with_the_reason() -> None:
    """A pin, a split or a newer release; without one the outcome is still open."""
    assert progress(release(4, "standby", "new", "a newer release is there"), serving=OTHER) == (
        Outcome.STANDS_BY,
        "a newer release is there",
    )
    assert progress(release(4, "standby", "new"), serving=OTHER, pin="0.1.0") == (Outcome.STANDS_BY, "tiny is pinned to 0.1.0")
    split = {"0.1.0": 1, "0.3.0": 1}
    assert progress(release(4, "ready", "new"), serving=OTHER, split=split)[1] == "traffic of tiny is split between 0.1.0, 0.3.0"
    assert progress(release(4, "standby", "new"), serving=OTHER)[0] is None


def test_a_release_that_is_kept_for_a_rollback_stands_by() -> None:
    """Its workers are up, but a newer release serves. If its own file had other content, or an older release serves, it may take over."""
    newer = [TrafficShare("0.10.0", "newest", 100.0)]
    assert progress(release(2, "kept", "new"), serving=newer) == (Outcome.STANDS_BY, "a newer release of the model is there")
    assert progress(release(2, "kept", "new"), serving=newer, pin="0.10.0") == (Outcome.STANDS_BY, "tiny is pinned to 0.10.0")
    assert progress(release(2, "kept", "new"), release(3, "ready", "newest", version="0.10.0"), serving=newer)[0] is None
    assert progress(release(2, "kept", "new"), release(3, "refused", reason="no zip"), serving=newer)[0] is not None
    assert progress(release(2, "kept", "new"), serving=OTHER)[0] is None


def test_a_base_serves_once_models_can_run_on_it() -> None:
    """A base gets no requests."""
    base = {"kind": "base", "name": "pexdock"}
    assert progress(release(4, "unpacking", "new", **base))[0] is None
    assert progress(release(4, "ready", "new", **base))[0] is Outcome.SERVES


ORDER = ModelReport(name="tiny", serving=OTHER, desired=SERVES)


def change(*releases: ReleaseReport, applied: int = 7, **model: object) -> tuple[Outcome | None, str]:
    models = [ModelReport(name="tiny", **{"desired": SERVES} | model)] if model else []
    found = order_stage(State(dist_path="", generation=7, applied_generation=applied, releases=list(releases), models=models), ORDER)
    return found.outcome, found.text


def test_a_change_is_in_force_once_every_front_door_has_applied_it() -> None:
    """Not while its release starts, nor while one front door has an older routing table."""
    assert change(release(4, "starting", "new"), serving=OTHER) == (None, "waits: 0.2.0 is starting")
    assert change(release(4, "ready", "new"), serving=SERVES, applied=6) == (None, "waits: front doors have not applied it yet")
    assert change(release(4, "ready", "new"), serving=SERVES) == (Outcome.SERVES, "is in force")


def test_a_change_fails_when_its_release_does() -> None:
    """It has the reason; a rollback or a deleted release fail it, too."""
    assert change(release(4, "failed", "new", "broken"), serving=OTHER, desired=OTHER) == (Outcome.FAILED, "0.2.0: broken")
    assert change(release(3, "ready", "old"), serving=OTHER, desired=OTHER) == (Outcome.FAILED, "0.2.0 no longer exists")
    assert change() == (Outcome.FAILED, "0.2.0 no longer exists")
    rolled_back = {"serving": OTHER, "desired": OTHER, "rolled_back": [RolledBackRelease("0.2.0", "new", "it died")]}
    assert change(release(4, "standby", "new"), **rolled_back) == (Outcome.ROLLED_BACK, "0.2.0: it died")


def test_a_change_is_superseded_by_another_one() -> None:
    assert change(release(4, "standby", "new"), serving=OTHER, desired=OTHER)[0] is Outcome.STANDS_BY
    assert change(release(4, "ready", "new"), serving=OTHER, desired=[*OTHER, *SERVES])[0] is Outcome.STANDS_BY


def test_an_order_to_mirror_requests_is_in_force_once_front_doors_know_a_release_that_gets_them() -> None:
    """Its release may have to start. What serves makes no difference."""
    order = ModelReport(name="tiny", shadow="canary", shadow_sha256="new")

    def found(release_state: str, applied: int = 2, **model: object) -> tuple[Outcome | None, str]:
        known = ModelReport(name="tiny", **({"shadow_sha256": "new"} | model))
        releases = [release(4, release_state, "new", "broken" if release_state == "failed" else "")]
        stage = mirror_stage(State(dist_path="", generation=2, applied_generation=applied, releases=releases, models=[known]), order)
        return stage.outcome, stage.text

    assert found("starting") == (None, "waits: 0.2.0 is starting")
    assert found("ready", 1, shadow_in_force=True) == (None, "waits: 0.2.0 is ready")
    assert found("ready", shadow_in_force=True) == (Outcome.SERVES, "is in force")
    assert found("failed") == (Outcome.FAILED, "0.2.0: broken")
    assert found("ready", shadow_sha256="") == (Outcome.STANDS_BY, "superseded by another change")
