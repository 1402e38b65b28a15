"""The plan of releases to start and to stop."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from base.endpoint.path import path_shape
from release_states import release
from runtime.supervisor.rollout import conflicts, planner
from runtime.supervisor.rollout.release_state import ReleaseEvent, ReleaseState


def planned(*releases):
    plan = planner.plan_releases(releases)
    return [each.title for each in plan.start], [each.title for each in plan.stop]


def test_only_the_newest_release_of_each_model_is_started():
    """PEP 440 decides rather than the alphabet. The others stay on standby, so a dist/ full of old versions costs nothing."""
    releases = release("iris 0.9.0"), release("iris 0.10.0"), release("iris 0.10.0rc1"), release("other 1.0")
    assert planned(*releases) == (["iris 0.10.0", "other 1.0"], [])


def test_the_old_release_serves_until_the_new_one_is_ready():
    """It stops as soon as the new one has taken over."""
    old, new = release("iris 0.1.0", state="running", ready=True), release("iris 0.2.0")
    assert planned(old, new) == (["iris 0.2.0"], [])
    new.machine.state = ReleaseState.UNPACKING
    assert planned(old, new) == ([], [])
    new.machine.state = ReleaseState.RUNNING
    assert planned(old, new) == ([], [])
    assert planner.serving_releases([old, new]) == [old]
    new.was_ready = True
    assert planned(old, new) == ([], ["iris 0.1.0"])
    assert planner.serving_releases([old, new]) == [new]


def test_a_release_with_jobs_runs_beside_the_one_that_serves():
    """It is started for them, too: a supervisor that begins anew finds it on standby."""
    old, new = release("iris 0.1.0", state="running", ready=True, has_jobs=True), release("iris 0.2.0", state="running", ready=True)
    assert planned(old, new) == ([], [])
    assert planner.serving_releases([old, new]) == [new]
    old.has_jobs = False
    assert planned(old, new) == ([], ["iris 0.1.0"])
    assert planned(release("iris 0.1.0", has_jobs=True), new) == (["iris 0.1.0"], [])


def test_a_release_between_one_that_crashes_at_each_start_and_one_that_serves_is_tried():
    """The newest version that works must serve, so every version above the serving one is tried."""
    broken, serving = release("iris 0.3", state="running", crash_count=1), release("iris 0.1", state="running", ready=True)
    assert planned(broken, release("iris 0.2"), serving) == (["iris 0.2"], [])


def test_an_older_release_is_started_if_the_newer_one_crashes_at_each_start_and_nothing_serves():
    """After a restart Pexdock must serve what it served before."""
    new, old, oldest = release("iris 0.2.0", state="running", crash_count=1), release("iris 0.1.0"), release("iris 0.0.1")
    assert planned(new, old, oldest) == (["iris 0.1.0"], [])
    old.machine.state, old.was_ready = ReleaseState.RUNNING, True
    assert planned(new, old, oldest) == ([], [])
    assert planner.serving_releases([new, old, oldest]) == [old]
    new.was_ready = True
    assert planned(new, old, oldest) == ([], ["iris 0.1.0"])


def test_a_release_that_was_refused_or_failed_is_ignored():
    """The next release below it takes its place."""
    assert planned(release("iris 0.3", state="failed"), release("iris 0.2", state="refused"), release("iris 0.1")) == (["iris 0.1"], [])


def test_a_start_is_abandoned_for_a_newer_release():
    """The older release has not served yet."""
    assert planned(release("iris 0.1", state="unpacking"), release("iris 0.2")) == (["iris 0.2"], ["iris 0.1"])


def test_a_replaced_file_takes_over_even_with_an_older_version_and_only_once_it_is_ready():
    """Someone who overwrites a file wants the new content. If it fails, the old content keeps serving."""
    new = release("iris 0.1", 2, file="iris.pex")
    old = release("iris 0.2", 1, "running", ready=True, file="iris.pex", in_place=False, replaced_by=new)
    releases = old, new, release("iris 0.0.1", 0)
    new.machine.state = ReleaseState.WAITING
    assert planned(*releases) == ([], [])
    new.machine.state = ReleaseState.STANDBY
    assert planned(*releases) == (["iris 0.1"], [])
    new.machine.state = ReleaseState.RUNNING
    assert planned(*releases) == ([], [])
    new.was_ready = True
    assert planned(*releases) == ([], ["iris 0.2"])
    new.machine.state = ReleaseState.FAILED
    assert planned(*releases) == ([], [])


class Models(RuleBasedStateMachine):
    """Releases of two models are dropped, become ready, crash and fail in any order, and the plan is followed after each step."""

    def __init__(self):
        super().__init__()
        self.releases = []
        self.served = {}

    @rule(
        name=st.sampled_from("ab"),
        version=st.sampled_from("123"),
        paths=st.lists(st.sampled_from(["/x", "/y/{p}"]), min_size=1, unique=True),
    )
    def drop(self, name, version, paths):
        made = release(f"{name} {version}", len(self.releases), file=f"{len(self.releases)}.pex")
        made.paths = paths
        self.releases.append(made)
        self.follow()

    @precondition(lambda self: self.starting())
    @rule(data=st.data(), event=st.sampled_from(["ready", "crashed", "failed"]))
    def starts(self, data, event):
        each = data.draw(st.sampled_from(self.starting()))
        if event == "ready":
            each.was_ready, each.spec = True, release(each.title, paths=each.paths).spec
        elif event == "crashed":
            each.crash_count += 1
        else:
            each.machine.step(ReleaseEvent.FAILED)
        self.follow()

    @precondition(lambda self: self.releases)
    @rule(data=st.data())
    def vanishes(self, data):
        data.draw(st.sampled_from(self.releases)).in_place = False
        self.follow()

    def starting(self):
        return [each for each in self.releases if each.state is ReleaseState.RUNNING and not each.was_ready]

    def follow(self):
        for _ in range(50):
            before = [(each.state, each.was_ready) for each in self.releases]
            while found := conflicts.find_conflicts(self.releases):
                for each, _ in found:
                    each.machine.step(ReleaseEvent.REFUSED)
                    each.was_ready, each.contended = False, True
            for each in conflicts.resolved_conflicts(self.releases):
                each.contended = False
                each.machine.step(ReleaseEvent.RETRIED)
                each.machine.step(ReleaseEvent.BASE_CHOSEN)
            plan = planner.plan_releases(self.releases)
            for each in plan.stop:
                each.machine.step(ReleaseEvent.DEMOTED)
                each.was_ready = False
            for each in plan.start:
                each.machine.step(ReleaseEvent.PROMOTED)
                each.machine.step(ReleaseEvent.UNPACKED)
                each.crash_count = 0
            if before == [(each.state, each.was_ready) for each in self.releases]:
                return
        raise AssertionError("the plan never converges")

    @invariant()
    def no_path_is_served_twice(self):
        shapes = [path_shape(end.path) for each in planner.serving_releases(self.releases) for end in each.spec.endpoints]
        assert len(set(shapes)) == len(shapes)

    @invariant()
    def one_release_of_a_model_serves_and_none_below_it_runs(self):
        for ranked in planner.group_by_model(self.releases):
            running = [each for each in ranked if each.state is ReleaseState.RUNNING]
            assert sum(each.serves for each in running) <= 1
            assert not any(each.serves for each in running[:-1])

    @invariant()
    def a_model_with_a_release_left_runs_one(self):
        for ranked in planner.group_by_model(self.releases):
            assert any(each.state is ReleaseState.RUNNING for each in ranked)

    @invariant()
    def every_refused_release_conflicts_with_another(self):
        assert conflicts.resolved_conflicts(self.releases) == []


Models.TestCase.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)
TestModels = Models.TestCase
