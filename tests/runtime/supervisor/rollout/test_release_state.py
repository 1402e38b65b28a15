"""The lifecycle of one release."""

from runtime.state_machine import Machine
from runtime.supervisor.rollout.release_state import RELEASE_STEPS, ReleaseAction, ReleaseEvent, ReleaseState


def test_a_release_can_be_stopped_in_every_state_and_only_once():
    """Otherwise it would stay in the list after its file is gone."""
    for state in ReleaseState:
        assert Machine(RELEASE_STEPS, state).allows(ReleaseEvent.STOPPED) is (state is not ReleaseState.STOPPED)


def test_a_running_release_never_leaves_that_state_without_its_workers_being_stopped():
    """Every transition out of RUNNING has the action that stops them."""
    transitions = [step for (state, _), step in RELEASE_STEPS.items() if state is ReleaseState.RUNNING]
    assert len(transitions) == 4
    assert all(action is ReleaseAction.STOP_WORKERS for _, action in transitions)
