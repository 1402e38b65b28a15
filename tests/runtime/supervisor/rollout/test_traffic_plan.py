"""Where the requests of a model go, and which releases run, given what operators said."""

from __future__ import annotations

from base.ipc.front_door_control import MirrorSpec
from release_states import release
from runtime.supervisor.rollout import planner, traffic_plan, traffic_policy
from runtime.supervisor.rollout.release import Release
from runtime.supervisor.rollout.traffic_policy import TrafficPolicy


def family(*states: str, **more: object) -> list[Release]:
    """iris 0.3, 0.2 and 0.1; `ready` is one that runs and is."""
    made = []
    for number, state in zip((3, 2, 1), states, strict=True):
        made.append(release(f"iris 0.{number}", number, "running" if state == "ready" else state, ready=state == "ready", **more))
    return made


def planned(releases: list[Release], said: TrafficPolicy, *, starting: bool = False) -> tuple[list[str], list[str]]:
    plan = planner.plan_releases(releases, {"iris": said}, starting=starting)
    return [each.version for each in plan.start], [each.version for each in plan.stop]


def shares(releases: list[Release], said: TrafficPolicy) -> dict[str, int]:
    return {each.version: weight for each, weight in traffic_plan.plan_traffic(releases, said).shares}


def test_a_pin_serves_whatever_is_newer() -> None:
    """What serves goes on until the pinned one takes over."""
    said = TrafficPolicy(pin="0.1")
    releases = family("standby", "ready", "standby")
    assert planned(releases, said) == (["0.1"], [])
    assert shares(releases, said) == {"0.2": 1}
    releases = family("standby", "ready", "ready")
    assert planned(releases, said) == ([], ["0.2"])
    assert shares(releases, said) == {"0.1": 1}


def test_at_the_start_nothing_stands_in_for_a_pin_that_may_still_come() -> None:
    """Else what nobody wanted would serve for a moment; afterwards it is better than nothing."""
    said, releases = TrafficPolicy(pin="7"), family("standby", "standby", "standby")
    assert planned(releases, said, starting=True) == ([], [])
    assert planned(releases, said) == (["0.3"], [])
    assert traffic_plan.unmet_orders(family("ready", "standby", "standby"), said) == [
        "7 is pinned, but there is no release 7 that could serve"
    ]


def test_a_start_brings_back_what_served_last_while_a_newer_one_is_proven() -> None:
    """The newer one was dropped just before the end, and may take long, or fail."""
    releases = family("standby", "standby", "standby")
    said = TrafficPolicy(served=[releases[2].sha256, releases[1].sha256])
    assert planned(releases, said) == (["0.3", "0.2"], [])
    releases = family("running", "ready", "standby")
    assert planned(releases, said) == ([], [])
    assert shares(releases, said) == {"0.2": 1}
    assert planned(family("ready", "running", "standby"), said) == ([], ["0.2"])


def test_all_releases_of_a_split_run_and_those_that_are_ready_share() -> None:
    """The others of the model end once one of them serves."""
    said = traffic_policy.with_split(TrafficPolicy(), {"0.1": 1, "0.2": 9}, "header:x-user")
    assert planned(family("ready", "standby", "standby"), said) == (["0.2", "0.1"], [])
    assert shares(family("ready", "running", "running"), said) == {"0.3": 1}
    assert shares(family("ready", "running", "ready"), said) == {"0.1": 1}
    releases = family("ready", "ready", "ready")
    assert planned(releases, said) == ([], ["0.3"])
    assert shares(releases, said) == {"0.2": 9, "0.1": 1}
    sharing = traffic_plan.plan_traffic(releases, said).split_spec(said)
    assert sharing is not None
    assert (sharing.weights, sharing.by) == ({releases[1].sha256: 9, releases[2].sha256: 1}, "header:x-user")
    assert sharing.labels == {"stable": releases[1].sha256}


def test_a_release_that_gets_copies_runs_beside_and_gets_no_requests() -> None:
    """Also one that was taken back: that is how it is looked into."""
    releases = family("ready", "standby", "standby")
    said = traffic_policy.with_shadow(traffic_policy.with_rolled_back(TrafficPolicy(), releases[1].sha256, "bad"), "0.2", 10)
    assert planned(releases, said) == (["0.2"], [])
    releases = family("ready", "ready", "standby")
    assert planned(releases, said) == ([], [])
    found = traffic_plan.plan_traffic(releases, said)
    assert [each.version for each in found.routed] == ["0.3", "0.2"]
    sharing = found.split_spec(said)
    assert sharing is not None
    assert (sharing.weights, sharing.mirror) == ({releases[0].sha256: 1}, MirrorSpec(releases[1].sha256, 10))


def test_a_labelled_release_runs_and_can_be_asked_for() -> None:
    """A label that was set to `stable` is meant as it was set."""
    releases = family("ready", "ready", "standby")
    said = TrafficPolicy(labels={"stable": "0.2", "canary": "0.3"})
    assert planned(releases, said) == ([], [])
    sharing = traffic_plan.plan_traffic(releases, said).split_spec(said)
    assert sharing is not None
    assert sharing.labels == {"stable": releases[1].sha256, "canary": releases[0].sha256}


def test_what_was_taken_back_serves_only_until_something_else_does() -> None:
    """And is never started again."""
    releases = family("ready", "standby", "standby")
    said = traffic_policy.with_rolled_back(TrafficPolicy(), releases[0].sha256, "bad")
    assert planned(releases, said) == (["0.2"], [])
    assert shares(releases, said) == {"0.3": 1}
    assert planned(family("ready", "ready", "standby"), said) == ([], ["0.3"])
    only = [release("iris 0.3", 3)]
    assert planned(only, said) == ([], [])


def test_what_is_kept_runs_on_without_requests() -> None:
    """Until its time is over."""
    releases = family("ready", "ready", "standby")
    releases[1].warm_standby = True
    assert planned(releases, TrafficPolicy()) == ([], [])
    assert traffic_plan.plan_traffic(releases, TrafficPolicy()).routed == [releases[0]]
    releases[1].warm_standby = False
    assert planned(releases, TrafficPolicy()) == ([], ["0.2"])


def test_a_release_takes_over_with_all_of_its_workers_unless_one_has_died() -> None:
    """Where nothing serves, the first of them is enough."""
    releases = family("ready", "ready", "standby")
    releases[0].pending_workers = 1
    assert shares(releases, TrafficPolicy()) == {"0.2": 1}
    assert planned(releases, TrafficPolicy()) == ([], [])
    releases[1].was_ready = False
    assert shares(releases, TrafficPolicy()) == {"0.3": 1}


def test_one_release_that_serves_all_needs_no_words_about_sharing() -> None:
    """So a model of which nothing was said costs nothing."""
    assert traffic_plan.plan_traffic(family("ready", "standby", "standby"), TrafficPolicy()).split_spec(TrafficPolicy()) is None
    assert traffic_plan.plan_traffic(family("standby", "standby", "standby"), TrafficPolicy()).routed == []


def test_a_file_that_is_replaced_in_place_does_not_bring_back_what_is_kept() -> None:
    """What serves goes on until its own replacement takes over."""
    new = release("iris 0.2", 5, "running", file="iris.pex")
    old = release("iris 0.2", 4, "running", ready=True, in_place=False, replaced_by=new)
    kept = release("iris 0.1", 3, "running", ready=True, warm_standby=True)
    (family_,) = planner.group_by_model([kept, old, new])
    assert family_ == [new, old, kept]
    assert traffic_plan.plan_traffic(family_, TrafficPolicy()).routed == [old]


def test_what_should_serve_is_what_was_named_or_else_the_newest() -> None:
    """Whether or not it can yet."""
    releases = family("running", "ready", "standby")

    def wanted(said: TrafficPolicy) -> dict[str, int]:
        return {each.version: weight for each, weight in traffic_plan.desired_shares(releases, said)}

    assert wanted(TrafficPolicy()) == {"0.3": 1}
    assert wanted(TrafficPolicy(pin="0.1")) == {"0.1": 1}
    assert wanted(traffic_policy.with_split(TrafficPolicy(), {"0.1": 3, "0.2": 1})) == {"0.1": 3, "0.2": 1}
    assert wanted(traffic_policy.with_rolled_back(TrafficPolicy(), releases[0].sha256, "it died")) == {"0.2": 1}
    assert traffic_plan.desired_shares([], TrafficPolicy()) == []


def test_what_is_kept_stands_in_for_what_is_on_probation_and_for_nothing_else() -> None:
    """It is routed to, with no weight; not where it gets copies, which are not answers."""
    releases = family("ready", "ready", "standby")
    newest, before, _ = releases
    found = traffic_plan.plan_traffic(releases, TrafficPolicy())
    assert found.fallback(releases) is None
    before.warm_standby = True
    assert found.fallback(releases) is None
    newest.on_probation = True
    assert found.fallback(releases) is before
    sharing = found.split_spec(TrafficPolicy(), before)
    assert sharing is not None
    assert (sharing.weights, sharing.fallback, sharing.hides(before.sha256)) == ({newest.sha256: 1}, before.sha256, True)
    assert found.fallback([release("other 0.2", 9, "running", ready=True, warm_standby=True)]) is None
    copied = traffic_plan.plan_traffic(releases, traffic_policy.with_shadow(TrafficPolicy(), "0.2", 50))
    assert copied.fallback(releases) is None
    shared = traffic_plan.plan_traffic(releases, traffic_policy.with_split(TrafficPolicy(), {"0.3": 1, "0.2": 1}))
    assert shared.fallback(releases) is None
