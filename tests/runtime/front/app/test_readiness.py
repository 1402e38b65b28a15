"""The readiness of a front door, by what the supervisor reports and by its own connections."""

import pytest

from base.ipc.front_door_control import ModelStates, ModelStatus
from runtime.front.app.readiness import FrontReadiness
from runtime.model_state import MEANINGS, ModelState


def front(connected, states=None, *, complete=True, withdrawn=False):
    made = FrontReadiness(lambda: connected)
    made.startup_complete, made.withdrawn = complete, withdrawn
    if states is not None:
        made.set_states(states)
    return made


def states(required=(), **models):
    return ModelStates({name: ModelStatus(state, "why") for name, state in models.items()}, list(required), one_required=True)


def test_everything_is_ready():
    assert front({"a": True}, states(a="ready")).report().ready
    assert front({"a": True}, states(a="degraded")).report().not_ready == []


@pytest.mark.parametrize("state", [state for state in ModelState if not MEANINGS[state].ready and state is not ModelState.UNKNOWN])
def test_a_model_that_is_not_ready_is_named_and_holds_the_machine_only_if_required(state):
    for required in ([], ["b"]):
        found = front({"a": True}, states(required, a="ready", b=state)).report()
        assert found.not_ready == ["b"]
        assert found.models["b"] == ModelStatus(state, "why")
        assert found.ready == (not required)
        assert ("waits for b" in found.reason) == bool(required)


def test_a_named_model_that_does_not_exist_holds_the_machine():
    found = front({"a": True}, states(["ghost"], a="ready")).report()
    assert (found.ready, found.not_ready, found.models["ghost"].state) == (False, ["ghost"], "unknown")


def test_a_model_of_the_past_without_a_file_is_not_named():
    assert front({"a": True}, states(a="ready", gone="unknown")).report().not_ready == []


def test_without_a_ready_model_the_machine_is_not_ready():
    found = front({"a": False}, states(a="ready")).report()
    assert (found.ready, found.models["a"].state) == (False, "restarting")
    assert "waits for any model" in found.reason


def test_the_connections_of_the_front_door_count_more_than_an_older_report():
    assert front({"a": False}, states(a="ready")).status("a").state == "restarting"
    assert front({"a": True}, states(a="warming")).status("A").state == "ready"
    assert front({}, states(a="warming")).status("a").state == "warming"
    assert front({}, states()).status("a").state == "unknown"


def test_the_start_and_the_end_are_not_ready():
    starting = front({"a": True}, states(a="ready"), complete=False).report()
    assert (starting.ready, starting.not_ready) == (False, [])
    assert "is starting" in starting.reason
    stopping = front({"a": True}, states(a="ready"), withdrawn=True)
    assert (stopping.report().ready, stopping.status("a").state) == (False, "retiring")
    assert "shutting down" in stopping.report().reason


def test_a_development_server_requires_every_model():
    assert front({"a": True}).report().ready
    found = front({"a": True, "b": False}).report()
    assert (found.ready, found.not_ready) == (False, ["b"])
