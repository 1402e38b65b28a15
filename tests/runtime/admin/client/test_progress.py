"""How far a dropped pex has come, as `pexdock deploy` reads it from the state."""

from __future__ import annotations

from runtime.admin.client.progress import DeployedFile, Outcome, deploy_stage, order_stage
from runtime.supervisor.status.state import ModelReport, ProbationReport, ReleaseReport, RolledBackRelease, State, TrafficShare

DROP = DeployedFile("tiny-0.2.0.pex", "new", 3)


def release(order: int, state: str, sha256: str = "", reason: str = "", **known: object) -> ReleaseReport:
    identity = {"kind": "model", "name": "Tiny", "version": "0.2.0"} if sha256 else {}
    given = {"file": DROP.file, "order": order, "state": state, "since": "", "sha256": sha256, "reason": reason}
    return ReleaseReport(**given | identity | known)


def told(*releases: ReleaseReport, prove: bool = False, **model: object) -> tuple[Outcome | None, str]:
    models = [ModelReport(name="tiny", **model)] if model else []
    found = deploy_stage(State(dist_path="", releases=list(releases), models=models), DROP, prove=prove)
    return found.outcome, found.text


SERVES = [TrafficShare("0.2.0", "new", 100.0)]
OTHER = [TrafficShare("0.1.0", "old", 100.0)]


def test_nothing_is_known_until_the_file_has_settled() -> None:
    """What came under its name before is another content."""
    assert told() == (None, "waits until the file stays as it is")
    assert told(release(3, "ready", "old"), serves=OTHER) == (None, "waits until the file stays as it is")
    assert told(release(3, "failed", "new", "broken"))[0] is None  # it is tried anew
    assert told(release(3, "refused", reason="no zip"))[0] is None


def test_what_came_since_under_its_name_is_followed() -> None:
    """Before its digest is known, and by its digest afterwards."""
    assert told(release(4, "verifying")) == (None, "verifying")
    assert told(release(4, "refused", reason="no zip")) == (Outcome.REFUSED, "no zip")
    assert told(release(4, "waiting", "new", "there is no base"), serves=OTHER) == (None, "waiting: there is no base")
    assert told(release(4, "failed", "new", "broken"), release(3, "ready", "old"), serves=OTHER) == (Outcome.FAILED, "broken")


def test_it_serves_once_requests_reach_it() -> None:
    """Ready alone is not enough, and the same content that serves already is."""
    assert told(release(4, "ready", "new"), serves=OTHER)[0] is None
    assert told(release(4, "starting", "new"), serves=SERVES)[0] is None
    assert told(release(4, "ready", "new", paths=["/tiny"]), serves=SERVES) == (Outcome.SERVES, "serves at /tiny")
    assert told(release(2, "ready", "new", file="other.pex"), serves=SERVES)[0] is Outcome.SERVES
    shared = [TrafficShare("0.1.0", "old", 90.0), TrafficShare("0.2.0", "new", 10.0)]
    assert told(release(4, "ready", "new", paths=["/a", "/b"]), serves=shared) == (Outcome.SERVES, "serves at /a /b, 10 % of the requests")


def test_a_probation_is_waited_for_where_that_is_wanted() -> None:
    """Only then; what is taken back in it does not serve."""
    watched = {"serves": SERVES, "probation": [ProbationReport("0.2.0", "noon", 5, 0, 0)]}
    assert told(release(4, "ready", "new"), **watched)[0] is Outcome.SERVES
    assert told(release(4, "ready", "new"), **watched, prove=True) == (None, "serves, on probation until noon")
    taken = {"serves": OTHER, "taken_back": [RolledBackRelease("0.2.0", "new", "9 of 20 requests failed")]}
    assert told(release(4, "ready", "new"), **taken) == (Outcome.TAKEN_BACK, "9 of 20 requests failed")


def test_what_keeps_it_from_serving_is_told() -> None:
    """A pin, a split, a newer release; while it merely waits for its turn nothing is decided."""
    assert told(release(4, "standby", "new", "a newer release is there"), serves=OTHER) == (Outcome.STANDS_BY, "a newer release is there")
    assert told(release(4, "standby", "new"), serves=OTHER, pin="0.1.0") == (Outcome.STANDS_BY, "tiny is pinned to 0.1.0")
    split = {"0.1.0": 1, "0.3.0": 1}
    assert told(release(4, "ready", "new"), serves=OTHER, split=split)[1] == "the requests of tiny are split among 0.1.0, 0.3.0"
    assert told(release(4, "standby", "new"), serves=OTHER)[0] is None


def test_a_base_serves_once_models_can_run_on_it() -> None:
    """It has no requests."""
    base = {"kind": "base", "name": "pexdock"}
    assert told(release(4, "unpacking", "new", **base))[0] is None
    assert told(release(4, "ready", "new", **base))[0] is Outcome.SERVES


ORDER = ModelReport(name="tiny", serves=OTHER, wanted=SERVES)


def ordered(*releases: ReleaseReport, applied: int = 7, **model: object) -> tuple[Outcome | None, str]:
    models = [ModelReport(name="tiny", **{"wanted": SERVES} | model)] if model else []
    found = order_stage(State(dist_path="", generation=7, applied=applied, releases=list(releases), models=models), ORDER)
    return found.outcome, found.text


def test_an_order_is_in_force_once_every_front_door_does_it() -> None:
    """Neither while its release starts, nor while one front door has an older table."""
    assert ordered(release(4, "starting", "new"), serves=OTHER) == (None, "waits: 0.2.0 is starting")
    assert ordered(release(4, "ready", "new"), serves=SERVES, applied=6) == (None, "waits: front doors do not have it yet")
    assert ordered(release(4, "ready", "new"), serves=SERVES) == (Outcome.SERVES, "is in force")


def test_an_order_fails_as_its_release_does() -> None:
    """With the reason; also where it is taken back, or gone."""
    assert ordered(release(4, "failed", "new", "broken"), serves=OTHER, wanted=OTHER) == (Outcome.FAILED, "0.2.0: broken")
    assert ordered(release(3, "ready", "old"), serves=OTHER, wanted=OTHER) == (Outcome.FAILED, "0.2.0 is not there any more")
    assert ordered() == (Outcome.FAILED, "0.2.0 is not there any more")
    taken = {"serves": OTHER, "wanted": OTHER, "taken_back": [RolledBackRelease("0.2.0", "new", "it died")]}
    assert ordered(release(4, "standby", "new"), **taken) == (Outcome.TAKEN_BACK, "0.2.0: it died")


def test_an_order_is_over_when_another_one_comes() -> None:
    assert ordered(release(4, "standby", "new"), serves=OTHER, wanted=OTHER)[0] is Outcome.STANDS_BY
    assert ordered(release(4, "ready", "new"), serves=OTHER, wanted=[*OTHER, *SERVES])[0] is Outcome.STANDS_BY
