"""The tables of states of releases and workers, and the machine that steps through them."""

import itertools

import pytest

from runtime.state_machine import IllegalStep, Machine
from runtime.supervisor.processes.worker_state import WORKER_STEPS, WorkerEvent, WorkerState
from runtime.supervisor.rollout.release_state import RELEASE_STEPS, ReleaseEvent, ReleaseState

MACHINES = [(RELEASE_STEPS, ReleaseState, ReleaseEvent), (WORKER_STEPS, WorkerState, WorkerEvent)]


@pytest.mark.parametrize(("steps", "states", "events"), MACHINES)
def test_a_pair_is_either_in_the_table_or_raises_and_changes_nothing(steps, states, events):
    """Checks every pair."""
    for state, event in itertools.product(states, events):
        machine = Machine(steps, state)
        if machine.allows(event):
            assert machine.step(event) is steps[state, event][1]
            assert machine.state is steps[state, event][0]
        else:
            with pytest.raises(IllegalStep, match=f"{event} in state {state}"):
                machine.step(event)
            assert machine.state is state
