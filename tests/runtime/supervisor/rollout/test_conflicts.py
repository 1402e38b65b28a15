"""Releases that conflict, and those whose conflict is over."""

from release_states import release
from runtime.supervisor.rollout import conflicts, planner
from runtime.supervisor.rollout.release_state import ReleaseState


def planned(*releases):
    plan = planner.plan_releases(releases)
    return [each.title for each in plan.start], [each.title for each in plan.stop]


def refused(*releases):
    return [(each.release.file, each.reason) for each in conflicts.find_conflicts(releases)]


def test_the_same_version_from_a_second_file_is_refused():
    """The release that was dropped first wins, whichever was verified first."""
    first, second = release("iris 0.1.0", 0, "waiting"), release("iris 0.1.0", 1, "running", ready=True, file="copy.pex")
    assert refused(second, first) == [
        ("copy.pex", "iris 0.1.0 is served from iris-0.1.0.pex, which has different content: give this release another version")
    ]
    first.machine.state = ReleaseState.FAILED
    assert refused(second, first) == []


def test_a_second_file_takes_over_once_the_first_with_its_version_is_gone():
    """A build was renamed in under another name."""
    first, second = release("iris 0.1.0", 0, "running", ready=True), release("iris 0.1.0", 1, "refused", file="copy.pex", contended=True)
    assert conflicts.resolved_conflicts([first, second]) == []
    first.in_place = False
    assert conflicts.resolved_conflicts([first, second]) == [second]
    second.contended = False
    second.machine.state = ReleaseState.STANDBY
    assert planned(first, second) == (["iris 0.1.0"], [])


def test_a_release_that_waits_for_a_path_does_not_displace_the_second_file_of_its_version():
    """The second file serves by now, and must not stop for a release that may never be ready."""
    first = release("iris 0.1.0", 0, "refused", paths=["/a"], contended=True)
    second = release("iris 0.1.0", 1, "running", ready=True, file="copy.pex", paths=["/b"])
    assert conflicts.resolved_conflicts([first, second]) == []


def test_a_path_of_another_model_is_refused_naming_path_model_and_file():
    """Paths differ by literal segments, and neither by the names of parameters nor by a trailing slash."""
    holder = release("iris 0.1", 0, "running", ready=True, paths=["/a/{x}"])
    rival = release("rose 0.1", 1, "running", ready=True, paths=["/b", "/a/{y}"])
    other = release("lily 0.1", 2, "running", ready=True, paths=["/a/x", "/{x}/a"])
    assert refused(other, rival, holder) == [
        ("rose-0.1.pex", "path /a/{y} is served by iris 0.1 as /a/{x}, from iris-0.1.pex: use another path")
    ]


def test_a_new_release_inherits_its_models_paths_and_no_others():
    """A drop neither loses a path of its model nor takes one of another model."""
    old = release("iris 0.1", 0, "standby", paths=["/a"])
    rival = release("rose 0.1", 1, "running", ready=True, paths=["/b"])
    new = release("iris 0.2", 2, "running", ready=True, paths=["/a", "/b"])
    assert [file for file, _ in refused(old, rival, new)] == ["iris-0.2.pex"]
    new.spec = release("iris 0.2", paths=["/a"]).spec
    rival.spec = release("rose 0.1", paths=["/a"]).spec
    assert [file for file, _ in refused(old, rival, new)] == ["rose-0.1.pex"]


def test_a_release_that_was_refused_for_a_path_comes_back_when_the_path_is_free():
    """It stays refused while the next release of the other model has the path."""
    holder = release("iris 0.2", 0, "running", ready=True, paths=["/a"])
    rival = release("rose 0.1", 1, "refused", paths=["/a"], contended=True)
    assert conflicts.resolved_conflicts([holder, rival]) == []
    holder.spec = release("iris 0.2", paths=["/c"]).spec
    assert conflicts.resolved_conflicts([holder, rival]) == [rival]
