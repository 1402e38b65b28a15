"""The state of a model from its releases and workers, row by row."""

import pytest

from release_states import release
from runtime.model_state import ModelState
from runtime.supervisor.rollout.model_status import ReleaseStatus, model_of_file, model_state
from runtime.supervisor.rollout.planner import traffic_plans


def status(made, ready=0, missing=0, **more):
    return ReleaseStatus(made, "iris", ready, missing, **more)


def new(state="running", version="2", **more):
    return release(f"iris {version}", 1, state, **more)


def old(state="running", **more):
    return release("iris 1", 0, state, **more)


S = ModelState

CASES = [
    ("nothing", [], S.UNKNOWN),
    ("a file is verified", [status(new("verifying"))], S.STARTING),
    ("its base is being read", [status(new("waiting"), may_start=True)], S.STARTING),
    ("its base is missing", [status(new("waiting"))], S.FAILED),
    ("it is unpacked", [status(new("unpacking"))], S.STARTING),
    ("it waits for a slot", [status(new(pending_workers=1), 0, 1)], S.STARTING),
    ("it imports", [status(new(pending_workers=1), 0, 1, has_process=True)], S.WARMING),
    ("it crashed before it was ready", [status(new(crash_count=1), 0, 1)], S.RESTARTING),
    ("a crash loop, and another release starts", [status(new(crash_count=1), 0, 1), status(old(), 0, 1, has_process=True)], S.WARMING),
    ("it cannot load", [status(new("failed"))], S.FAILED),
    ("it cannot load and the other was refused", [status(new("refused")), status(old("failed"))], S.FAILED),
    ("it was refused", [status(new("refused"))], S.REFUSED),
    ("it was refused for lack of space", [status(new("refused"), may_start=True)], S.FAILED),
    ("only a rolled-back release is left", [status(new("standby"), rolled_back=True)], S.FAILED),
    ("it is about to be started", [status(new("standby"))], S.STARTING),
    ("it serves", [status(new(ready=True), 1)], S.READY),
    ("it serves and a newer one failed", [status(new("failed", "3")), status(new(ready=True), 1)], S.READY),
    ("it serves and a newer one was refused", [status(new("refused", "3")), status(new(ready=True), 1)], S.READY),
    ("it serves and a newer one warms up", [status(new(version="3", pending_workers=1), 0, 1), status(new(ready=True), 1)], S.READY),
    ("one of its workers is down", [status(new(ready=True), 1, 1)], S.DEGRADED),
    ("all of its workers are down", [status(new(ready=True), 0, 2)], S.RESTARTING),
    (
        "the previous release answers",
        [status(new(ready=True, on_probation=True), 0, 1), status(old(ready=True, warm_standby=True), 1)],
        S.DEGRADED,
    ),
    (
        "the previous release is down too",
        [status(new(ready=True, on_probation=True), 0, 1), status(old(ready=True, warm_standby=True), 0, 1)],
        S.RESTARTING,
    ),
]


@pytest.mark.parametrize(("releases", "state"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_case(releases, state):
    plans = traffic_plans([each.release for each in releases])
    found = model_state(releases, plans.get("iris"))
    assert found.state is state
    assert bool(found.reason) == (state is not S.READY)


def test_each_state_but_that_of_shutdown_has_a_case():
    assert {case[2] for case in CASES} == set(ModelState) - {S.RETIRING}


def test_a_file_name_tells_its_model():
    """For a file that cannot be read; a base is no model."""
    names = {
        "iris-0.1.0.pex": "iris",
        "My_Iris-2.pex": "my-iris",
        "iris.pex": "iris",
        "iris-old.pex": "iris-old",
        "base-1.0.pex": "",
        "base.pex": "",
    }
    assert {name: model_of_file(name) for name in names} == names


def test_the_reason_for_clients_does_not_quote_the_model():
    """Its errors may have secrets, and anybody may read health pages."""
    failed = new("failed")
    failed.reason = "password=hunter2"
    found = model_state([status(failed)], None)
    assert "hunter2" not in found.reason
    assert found.detail == "password=hunter2"
