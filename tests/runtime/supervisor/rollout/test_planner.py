"""Which of many releases should run, and which are refused."""

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
    """PEP 440 decides, not the alphabet; others stand by, so a dist/ full of old versions costs nothing."""
    releases = release("iris 0.9.0"), release("iris 0.10.0"), release("iris 0.10.0rc1"), release("other 1.0")
    assert planned(*releases) == (["iris 0.10.0", "other 1.0"], [])


def test_the_old_release_goes_on_until_the_new_one_is_ready():
    """And not an instant longer."""
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


def test_between_one_that_dies_at_each_start_and_one_that_serves_the_newest_that_works_is_found():
    """The newest ready version serves, so every one above what serves gets its chance."""
    broken, serving = release("iris 0.3", state="running", crash_count=1), release("iris 0.1", state="running", ready=True)
    assert planned(broken, release("iris 0.2"), serving) == (["iris 0.2"], [])


def test_an_older_release_is_started_where_the_newer_one_dies_at_each_start_and_nothing_serves():
    """A restart of Pexdock must come back with what served before it."""
    new, old, oldest = release("iris 0.2.0", state="running", crash_count=1), release("iris 0.1.0"), release("iris 0.0.1")
    assert planned(new, old, oldest) == (["iris 0.1.0"], [])
    old.machine.state, old.was_ready = ReleaseState.RUNNING, True
    assert planned(new, old, oldest) == ([], [])
    assert planner.serving_releases([new, old, oldest]) == [old]
    new.was_ready = True
    assert planned(new, old, oldest) == ([], ["iris 0.1.0"])


def test_a_release_that_was_refused_or_failed_is_as_if_it_were_not_there():
    """The next one below takes its place."""
    assert planned(release("iris 0.3", state="failed"), release("iris 0.2", state="refused"), release("iris 0.1")) == (["iris 0.1"], [])


def test_a_start_in_vain_is_broken_off_for_a_newer_release():
    """It has served nobody yet."""
    assert planned(release("iris 0.1", state="unpacking"), release("iris 0.2")) == (["iris 0.2"], ["iris 0.1"])


def test_a_replaced_file_takes_over_even_with_an_older_version_and_only_once_it_is_ready():
    """Whoever overwrites a file means the new content. If that fails the old one stays."""
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


def refused(*releases):
    return [(each.release.file, each.reason) for each in conflicts.find_conflicts(releases)]


def test_the_same_version_from_a_second_file_is_refused_by_name():
    """The first that was dropped keeps it, whichever of the two was verified first."""
    first, second = release("iris 0.1.0", 0, "waiting"), release("iris 0.1.0", 1, "running", ready=True, file="copy.pex")
    assert refused(second, first) == [
        ("copy.pex", "iris 0.1.0 is served from iris-0.1.0.pex, which has different content: give this release another version")
    ]
    first.machine.state = ReleaseState.FAILED
    assert refused(second, first) == []


def test_a_double_takes_over_once_the_file_that_had_the_version_is_gone():
    """A build that was renamed in under another name."""
    first, second = release("iris 0.1.0", 0, "running", ready=True), release("iris 0.1.0", 1, "refused", file="copy.pex", contended=True)
    assert conflicts.resolved_conflicts([first, second]) == []
    first.in_place = False
    assert conflicts.resolved_conflicts([first, second]) == [second]
    second.contended = False
    second.machine.state = ReleaseState.STANDBY
    assert planned(first, second) == (["iris 0.1.0"], [])


def test_a_release_that_waits_for_a_path_does_not_push_out_its_double():
    """The double serves by now, and whoever serves is not stopped for one that may never be ready."""
    first = release("iris 0.1.0", 0, "refused", paths=["/a"], contended=True)
    second = release("iris 0.1.0", 1, "running", ready=True, file="copy.pex", paths=["/b"])
    assert conflicts.resolved_conflicts([first, second]) == []


def test_a_path_of_another_model_is_refused_naming_path_model_and_file():
    """The names of parameters do not tell two paths apart, nor does a trailing slash; literal segments do."""
    holder = release("iris 0.1", 0, "running", ready=True, paths=["/a/{x}"])
    rival = release("rose 0.1", 1, "running", ready=True, paths=["/b", "/a/{y}"])
    other = release("lily 0.1", 2, "running", ready=True, paths=["/a/x", "/{x}/a"])
    assert refused(other, rival, holder) == [
        ("rose-0.1.pex", "path /a/{y} is served by iris 0.1 as /a/{x}, from iris-0.1.pex: use another path")
    ]


def test_a_new_release_inherits_its_models_paths_and_no_others():
    """A drop can neither lose what its model had, nor take what another model has."""
    old = release("iris 0.1", 0, "standby", paths=["/a"])
    rival = release("rose 0.1", 1, "running", ready=True, paths=["/b"])
    new = release("iris 0.2", 2, "running", ready=True, paths=["/a", "/b"])
    assert [file for file, _ in refused(old, rival, new)] == ["iris-0.2.pex"]
    new.spec = release("iris 0.2", paths=["/a"]).spec
    rival.spec = release("rose 0.1", paths=["/a"]).spec
    assert [file for file, _ in refused(old, rival, new)] == ["rose-0.1.pex"]


def test_a_release_that_was_refused_for_a_path_comes_back_when_the_path_is_free():
    """And not while the other model's next release has it."""
    holder = release("iris 0.2", 0, "running", ready=True, paths=["/a"])
    rival = release("rose 0.1", 1, "refused", paths=["/a"], contended=True)
    assert conflicts.resolved_conflicts([holder, rival]) == []
    holder.spec = release("iris 0.2", paths=["/c"]).spec
    assert conflicts.resolved_conflicts([holder, rival]) == [rival]


class Models(RuleBasedStateMachine):
    """Releases of two models that are dropped, become ready, die and fail in any order, with the plan followed after each step."""

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
    @rule(data=st.data(), event=st.sampled_from(["ready", "died", "failed"]))
    def starts(self, data, event):
        each = data.draw(st.sampled_from(self.starting()))
        if event == "ready":
            each.was_ready, each.spec = True, release(each.title, paths=each.paths).spec
        elif event == "died":
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
        raise AssertionError("the plan never comes to rest")

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
    def whoever_is_refused_is_in_the_way_of_somebody(self):
        assert conflicts.resolved_conflicts(self.releases) == []


Models.TestCase.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)
TestModels = Models.TestCase
