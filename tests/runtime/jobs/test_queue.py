"""The order of jobs, against a plain list of what waits that is searched anew for each step."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runtime.jobs.queue import PRIORITIES, FairQueue

CLIENTS = ["", "ann", "ben"]
MODELS = ["iris", "wine"]


def runs_all(_model):
    return True


def drain(queue):
    return [queue.take(runs_all) for _ in range(len(queue))]


def test_jobs_of_one_client_begin_as_they_arrived():
    queue = FairQueue()
    for number in (3, 1, 2):
        queue.add(number, "ann", MODELS[number % 2], 3)
    assert drain(queue) == [1, 2, 3]
    assert queue.take(runs_all) is None


def test_a_thousand_jobs_of_one_client_do_not_keep_back_the_one_of_another():
    queue = FairQueue()
    for number in range(1000):
        queue.add(number, "ann", "iris", 3)
    queue.add(1000, "ben", "iris", 3)
    assert queue.jobs_before(1000) == 1
    assert drain(queue)[:3] == [0, 1000, 1]


def test_a_lower_priority_number_begins_first_whoever_the_client_is():
    queue = FairQueue()
    for number, priority in enumerate([7, 3, 0, 3]):
        queue.add(number, "ann", "iris", priority)
    assert drain(queue) == [2, 1, 3, 0]


def test_a_job_whose_model_cannot_run_keeps_its_place_and_keeps_nobody_back():
    queue = FairQueue()
    queue.add(1, "ann", "iris", 0)
    queue.add(2, "ann", "wine", 3)
    queue.add(3, "ben", "iris", 3)
    assert queue.take(lambda model: model == "wine") == 2
    assert queue.take(lambda model: model == "wine") is None
    assert drain(queue) == [1, 3]


def test_a_job_that_begins_again_stands_before_the_later_ones_of_its_client():
    queue = FairQueue()
    for number in range(4):
        queue.add(number, "ann", "iris", 3)
    assert queue.take(runs_all) == 0
    assert queue.take(runs_all) == 1
    queue.add(1, "ann", "iris", 3)
    queue.add(0, "ann", "iris", 3)
    assert drain(queue) == [0, 1, 2, 3]


def test_a_removed_job_never_begins_and_leaves_no_trace():
    queue = FairQueue()
    queue.add(1, "ann", "iris", 3)
    assert 1 in queue
    assert queue.models == {"iris": 1}
    assert queue.remove(1)
    assert not queue.remove(1)
    assert 1 not in queue
    assert queue.models == {}
    assert queue.take(runs_all) is None


@given(st.lists(st.tuples(st.sampled_from(CLIENTS), st.sampled_from(MODELS), st.sampled_from(PRIORITIES)), max_size=30), st.integers(0, 10))
def test_the_place_that_clients_are_told_is_the_one_at_which_the_job_begins(jobs, taken):
    queue = FairQueue()
    for number, (client, model, priority) in enumerate(jobs):
        queue.add(number, client, model, priority)
    for _ in range(taken):
        queue.take(runs_all)
    waiting = [number for number in range(len(jobs)) if number in queue]
    places = {number: queue.jobs_before(number) for number in waiting}
    assert places == {number: place for place, number in enumerate(drain(queue))}


class QueueMachine(RuleBasedStateMachine):
    """Compares the queue with a list of (number, client, model, priority), and a list of clients by their turns."""

    def __init__(self):
        super().__init__()
        self.queue = FairQueue()
        self.waiting = []
        self.taken = []
        self.turns = {priority: [] for priority in PRIORITIES}
        self.last = 0

    def enter(self, job):
        self.queue.add(*job)
        self.waiting.append(job)
        _, client, _, priority = job
        if client not in self.turns[priority]:
            self.turns[priority].append(client)

    def leave(self, job):
        self.waiting.remove(job)
        _, client, _, priority = job
        if not any(each[1] == client and each[3] == priority for each in self.waiting):
            self.turns[priority].remove(client)

    @rule(client=st.sampled_from(CLIENTS), model=st.sampled_from(MODELS), priority=st.sampled_from(PRIORITIES))
    def submit(self, client, model, priority):
        self.last += 1
        self.enter((self.last, client, model, priority))

    @rule(models=st.sets(st.sampled_from(MODELS)))
    def take(self, models):
        expected = None
        for priority in PRIORITIES:
            for client in self.turns[priority]:
                jobs = [job for job in self.waiting if job[1] == client and job[3] == priority and job[2] in models]
                if expected is None and jobs:
                    expected = min(jobs)
        assert self.queue.take(models.__contains__) == (expected and expected[0])
        if expected:
            _, client, _, priority = expected
            self.turns[priority].remove(client)
            self.turns[priority].append(client)
            self.leave(expected)
            self.taken.append(expected)

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def begin_again(self, data):
        job = data.draw(st.sampled_from(self.taken))
        self.taken.remove(job)
        self.enter(job)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data):
        job = data.draw(st.sampled_from(self.waiting))
        assert self.queue.remove(job[0])
        self.leave(job)

    @invariant()
    def holds_what_waits(self):
        assert len(self.queue) == len(self.waiting)
        assert self.queue.models == {model: count for model in MODELS if (count := sum(job[2] == model for job in self.waiting))}


TestQueueMachine = QueueMachine.TestCase
