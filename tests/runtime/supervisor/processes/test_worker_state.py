"""The lifecycle of one worker."""

from runtime.state_machine import Machine
from runtime.supervisor.processes.worker_state import WORKER_STEPS, WorkerAction, WorkerEvent, WorkerState


def test_a_worker_can_be_retired_once_and_has_stopped_when_its_process_has_exited():
    """Otherwise a shutdown could wait for ever, or leave a process behind."""
    for state in WorkerState:
        wanted = state not in {WorkerState.RETIRED, WorkerState.STOPPING, WorkerState.STOPPED}
        assert Machine(WORKER_STEPS, state).allows(WorkerEvent.RETIRED) is wanted
    with_process = {WorkerState.STARTING, WorkerState.READY, WorkerState.RETIRED, WorkerState.STOPPING}
    for state in WorkerState:
        assert Machine(WORKER_STEPS, state).allows(WorkerEvent.EXITED) is (state in with_process)


def test_a_worker_that_may_have_requests_is_drained_and_one_that_cannot_is_not_waited_for():
    """Only a worker that was ready was ever in a routing table."""
    worker = Machine(WORKER_STEPS, WorkerState.STARTING)
    assert worker.step(WorkerEvent.RETIRED) is WorkerAction.KILL
    worker = Machine(WORKER_STEPS, WorkerState.STARTING)
    events = (WorkerEvent.READY, WorkerEvent.RETIRED, WorkerEvent.UNROUTED)
    assert [worker.step(event) for event in events] == [None, None, WorkerAction.DRAIN]
