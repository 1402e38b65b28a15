"""Releases that conflict, and those whose conflict is over."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from release_states import release
from runtime.supervisor.rollout import conflicts, planner
from runtime.supervisor.rollout.path_claims import updated_claims
from runtime.supervisor.rollout.release_state import ReleaseState

WAY_OUT = (
    "and a request must not match paths of two models: give rose a path that overlaps none of iris, "
    "or remove the files of iris and restart Pexdock"
)


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


def test_a_path_that_overlaps_one_of_another_model_is_refused_naming_both_and_the_way_out():
    """Paths overlap if a request may match both. The names of parameters and a trailing slash make no difference."""
    holder = release("iris 0.1", 0, "running", ready=True, paths=["/a/{x}"])
    rival = release("rose 0.1", 1, "running", ready=True, paths=["/b", "/a/{y}"])
    other = release("lily 0.1", 2, "running", ready=True, paths=["/a/{x}/b", "/{x}", "/c/{x}"])
    assert refused(other, rival, holder) == [
        (
            "rose-0.1.pex",
            f"path /a/{{y}} belongs to iris 0.1 as /a/{{x}}, from iris-0.1.pex, {WAY_OUT}",
        )
    ]


@pytest.mark.parametrize(
    ("one", "other", "loser"),
    [
        ("/{any}", "/rose", "iris"),
        ("/a/{x}", "/{y}/b", "rose"),
        ("/{y}/b", "/a/{x}", "iris"),
        ("/a/{x}", "/a/{y}", "rose"),
        ("/a", "/a", "rose"),
        ("/{x}/{y}", "/{z}/b", "iris"),
        ("/a/b", "/a", ""),
        ("/a/{x}", "/b/{x}", ""),
        ("/{x}/a", "/{x}/b", ""),
        ("/a", "/A", ""),
    ],
)
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_new_models_the_more_specific_path_wins_and_then_the_name(one, other, loser, order):
    """It makes no difference which of the two was dropped or ready first."""
    iris = release("iris 1", order[0], "running", ready=True, paths=[one])
    rose = release("rose 1", order[1], "running", ready=True, paths=[other])
    for releases in ([iris, rose], [rose, iris]):
        assert [file for file, _ in refused(*releases)] == ([f"{loser}-1.pex"] if loser else [])


def test_a_model_that_has_served_with_a_path_keeps_it_from_a_more_specific_one():
    """It keeps the path while it has no release that is ready, and its other paths as well."""
    claims = {"iris": ["/{any}", "/a/{x}"]}
    iris = release("iris 1", 1, "running", ready=True, paths=["/{thing}"])
    rose = release("rose 1", 0, "running", ready=True, paths=["/rose"])
    lily = release("lily 1", 0, "running", ready=True, paths=["/{y}/b"])
    assert [file for file, _ in found([rose, iris], claims)] == ["rose-1.pex"]
    assert found([rose], claims) == [
        (
            "rose-1.pex",
            f"path /rose belongs to model iris as /{{any}}, {WAY_OUT}",
        )
    ]
    assert [file for file, _ in found([lily, iris], claims)] == ["lily-1.pex"]
    assert found([iris], {"iris": ["/x"], "rose": ["/y/z"]}) == []


def test_new_paths_are_given_to_no_model_while_a_release_has_not_described_its_paths():
    """Only a path with which another model has served decides at once."""
    iris = release("iris 1", 0, "running", ready=True, paths=["/a"], awaits="lily 1")
    rose = release("rose 1", 1, "running", ready=True, paths=["/a"], awaits="lily 1")
    assert found([iris, rose], {}) == []
    assert [file for file, _ in found([iris, rose], {"lily": ["/{any}"]})] == ["iris-1.pex", "rose-1.pex"]
    assert not iris.serves
    iris.awaits = rose.awaits = ""
    assert iris.serves
    assert [file for file, _ in found([iris, rose], {})] == ["rose-1.pex"]


def test_a_described_release_keeps_its_paths_while_it_starts_until_it_fails_often():
    """Its path is not another's because that one is ready sooner. The other comes back once nobody expects the first to start."""
    iris = release("iris 1", 0, "running", paths=["/a"], crash_count=2)
    rose = release("rose 1", 1, "running", ready=True, paths=["/a"])
    assert [file for file, _ in found([iris, rose], {})] == ["rose-1.pex"]
    rose.machine.state, rose.contended = ReleaseState.REFUSED, True
    assert conflicts.resolved_conflicts([iris, rose]) == []
    iris.keeps_failing = True
    assert conflicts.resolved_conflicts([iris, rose]) == [rose]


def test_paths_of_one_model_may_overlap():
    """The more specific one answers."""
    assert refused(release("iris 1", 0, "running", ready=True, paths=["/{any}", "/a", "/a/{x}", "/{y}/b"])) == []


SEGMENTS = st.sampled_from(["a", "b", "{x}", "{y}"])
PATHS = st.lists(st.lists(SEGMENTS, min_size=1, max_size=3).map(lambda each: "/" + "/".join(each)), min_size=1, max_size=3, unique=True)


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcde"), PATHS, max_size=5), st.dictionaries(st.sampled_from("abc"), PATHS, max_size=2), st.randoms()
)
def test_no_request_ever_matches_paths_of_two_models(paths, wishes, random):
    """Whatever models describe. Each refused model overlaps another, and all are refused at once that would be refused one by one."""
    claims = first_come(wishes)
    made = [release(f"{name} 1", order, "running", ready=True, paths=each) for order, (name, each) in enumerate(paths.items())]
    outcomes = []
    for at_once in (False, True):
        random.shuffle(made)
        left = list(made)
        while refusals := conflicts.find_conflicts(left, claims):
            dropped = [each.release for each in refusals][: None if at_once else 1]
            left = [each for each in left if each not in dropped]
            assert not at_once or conflicts.find_conflicts(left, claims) == []
        outcomes.append({each.name for each in left})
    assert outcomes[0] == outcomes[1]
    owned = [(each.name, end.path) for each in left for end in each.spec.endpoints]
    for request in itertools.chain.from_iterable(itertools.product("abc", repeat=length) for length in (1, 2, 3)):
        owners = {name for name, path in owned if matches(path, request)}
        claimants = {name for name, own in claims.items() for path in own if matches(path, request)}
        assert len(owners | claimants) <= 1
    for each in made:
        if each.name not in outcomes[0]:
            rest = [(name, path) for name, own in [*claims.items(), *paths.items()] for path in own if name != each.name]
            assert any(
                matches(end.path, request) and matches(path, request)
                for end in each.spec.endpoints
                for _, path in rest
                for request in itertools.product("abc", repeat=end.path.count("/"))
            )


def matches(path, request):
    """Returns whether a request's segments match a path, worked out segment by segment."""
    segments = path.split("/")[1:]
    return len(segments) == len(request) and all(mine.startswith("{") or mine == its for mine, its in zip(segments, request, strict=True))


def first_come(wishes):
    """Returns claims that do not overlap: those of the first model, and what is left of those of the others."""
    claims = {}
    for name, paths in wishes.items():
        claims[name] = [
            path
            for path in paths
            if not any(
                matches(path, request) and matches(other, request)
                for its, others in claims.items()
                for other in others
                if its != name
                for request in itertools.product("abc", repeat=path.count("/"))
            )
        ]
    return claims


def found(releases, claims):
    return [(each.release.file, each.reason) for each in conflicts.find_conflicts(releases, claims=claims)]


def test_a_new_release_keeps_its_models_paths_and_takes_no_others():
    """A drop neither loses a path of its model nor takes one of another model."""
    claims = {"iris": ["/a"], "rose": ["/b"]}
    old = release("iris 0.1", 0, "standby", paths=["/a"])
    rival = release("rose 0.1", 1, "running", ready=True, paths=["/b"])
    new = release("iris 0.2", 2, "running", ready=True, paths=["/a", "/b"])
    assert [file for file, _ in found([old, rival, new], claims)] == ["iris-0.2.pex"]
    new.spec = release("iris 0.2", paths=["/a"]).spec
    rival.spec = release("rose 0.1", paths=["/a"]).spec
    assert [file for file, _ in found([old, rival, new], claims)] == ["rose-0.1.pex"]


def test_the_paths_of_a_model_are_those_that_it_serves_with():
    """A path that its releases have given up is free, and so is one that another model has taken while this one was away."""
    new = release("iris 0.2", paths=["/a", "/{x}/b"])
    claims = updated_claims({"iris": ["/a", "/c"], "rose": ["/d"], "lily": ["/c/b", "/e"]}, {"iris": [new]})
    assert claims == {"iris": ["/a", "/{x}/b"], "rose": ["/d"], "lily": ["/e"]}
    old = release("iris 0.1", paths=["/c", "/{y}/b"])
    assert updated_claims(claims, {"iris": [new, old]})["iris"] == ["/a", "/c", "/{y}/b"]


def test_a_release_that_was_refused_for_a_path_comes_back_when_the_path_is_free():
    """It stays refused while the next release of the other model has the path."""
    holder = release("iris 0.2", 0, "running", ready=True, paths=["/a"])
    rival = release("rose 0.1", 1, "refused", paths=["/a"], contended=True)
    assert conflicts.resolved_conflicts([holder, rival]) == []
    holder.spec = release("iris 0.2", paths=["/c"]).spec
    assert conflicts.resolved_conflicts([holder, rival]) == [rival]
    holder.spec = release("iris 0.2", paths=["/{any}"]).spec
    assert conflicts.resolved_conflicts([holder, rival]) == []
    assert conflicts.resolved_conflicts([rival], claims={"iris": ["/{any}"]}) == []
    assert conflicts.resolved_conflicts([rival], claims={"iris": ["/{any}/a"]}) == [rival]
