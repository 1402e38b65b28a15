"""The releases that receive the requests of a model, and those that run, under its traffic policy."""

from __future__ import annotations

from base.ipc.front_door_control import MirrorSpec
from release_states import release
from runtime.supervisor.rollout import planner, traffic_plan, traffic_policy
from runtime.supervisor.rollout.release import Release
from runtime.supervisor.rollout.traffic_policy import TrafficPolicy


def family(*states: str, **more: object) -> list[Release]:
    """Returns iris 0.3, 0.2 and 0.1 in these states; `ready` is a running release with a ready worker."""
    made = []
    for number, state in zip((3, 2, 1), states, strict=True):
        made.append(release(f"iris 0.{number}", number, "running" if state == "ready" else state, ready=state == "ready", **more))
    return made


def planned(releases: list[Release], policy: TrafficPolicy, *, starting: bool = False) -> tuple[list[str], list[str]]:
    plan = planner.plan_releases(releases, {"iris": policy}, starting=starting)
    return [each.version for each in plan.start], [each.version for each in plan.stop]


def shares(releases: list[Release], policy: TrafficPolicy) -> dict[str, int]:
    return {each.version: weight for each, weight in traffic_plan.plan_traffic(releases, policy).shares}


def test_a_pinned_release_serves_even_if_a_newer_one_exists() -> None:
    """The release that serves keeps serving until the pinned one takes over."""
    policy = TrafficPolicy(pin="0.1")
    releases = family("standby", "ready", "standby")
    assert planned(releases, policy) == (["0.1"], [])
    assert shares(releases, policy) == {"0.2": 1}
    releases = family("standby", "ready", "ready")
    assert planned(releases, policy) == ([], ["0.2"])
    assert shares(releases, policy) == {"0.1": 1}


def test_at_the_start_no_other_release_serves_while_the_pinned_one_may_still_appear() -> None:
    """Otherwise an unwanted release would serve for a moment. After the start it is better than none."""
    policy, releases = TrafficPolicy(pin="7"), family("standby", "standby", "standby")
    assert planned(releases, policy, starting=True) == ([], [])
    assert planned(releases, policy) == (["0.3"], [])
    assert traffic_plan.unmet_orders(family("ready", "standby", "standby"), policy) == [
        "7 is pinned, but there is no release 7 that could serve"
    ]


def test_a_start_brings_back_the_release_that_served_last_while_a_newer_one_starts() -> None:
    """The newer one was dropped just before the shutdown, and may take long or fail."""
    releases = family("standby", "standby", "standby")
    policy = TrafficPolicy(served=[releases[2].sha256, releases[1].sha256])
    assert planned(releases, policy) == (["0.3", "0.2"], [])
    releases = family("running", "ready", "standby")
    assert planned(releases, policy) == ([], [])
    assert shares(releases, policy) == {"0.2": 1}
    assert planned(family("ready", "running", "standby"), policy) == ([], ["0.2"])


def test_all_releases_of_a_split_run_and_the_ready_ones_serve() -> None:
    """The other releases of the model stop once one of the split serves."""
    policy = traffic_policy.with_split(TrafficPolicy(), {"0.1": 1, "0.2": 9}, "header:x-user")
    assert planned(family("ready", "standby", "standby"), policy) == (["0.2", "0.1"], [])
    assert shares(family("ready", "running", "running"), policy) == {"0.3": 1}
    assert shares(family("ready", "running", "ready"), policy) == {"0.1": 1}
    releases = family("ready", "ready", "ready")
    assert planned(releases, policy) == ([], ["0.3"])
    assert shares(releases, policy) == {"0.2": 9, "0.1": 1}
    sharing = traffic_plan.plan_traffic(releases, policy).split_spec(policy)
    assert sharing is not None
    assert (sharing.weights, sharing.by) == ({releases[1].sha256: 9, releases[2].sha256: 1}, "header:x-user")
    assert sharing.labels == {"stable": releases[1].sha256}


def test_a_mirror_runs_and_serves_no_requests() -> None:
    """A release that was rolled back can be a mirror, so that it can be examined."""
    releases = family("ready", "standby", "standby")
    policy = traffic_policy.with_shadow(traffic_policy.with_rolled_back(TrafficPolicy(), releases[1].sha256, "bad"), "0.2", 10)
    assert planned(releases, policy) == (["0.2"], [])
    releases = family("ready", "ready", "standby")
    assert planned(releases, policy) == ([], [])
    found = traffic_plan.plan_traffic(releases, policy)
    assert [each.version for each in found.routed] == ["0.3", "0.2"]
    sharing = found.split_spec(policy)
    assert sharing is not None
    assert (sharing.weights, sharing.mirror) == ({releases[0].sha256: 1}, MirrorSpec(releases[1].sha256, 10))


def test_a_labelled_release_runs_and_serves_requests_for_its_label() -> None:
    """A policy of an older release may have the label `stable` on another release."""
    releases = family("ready", "ready", "standby")
    policy = TrafficPolicy(labels={"stable": "0.2", "canary": "0.3"})
    assert planned(releases, policy) == ([], [])
    sharing = traffic_plan.plan_traffic(releases, policy).split_spec(policy)
    assert sharing is not None
    assert sharing.labels == {"stable": releases[1].sha256, "canary": releases[0].sha256}


def test_a_release_that_was_rolled_back_serves_only_until_another_one_does() -> None:
    """It is never started again."""
    releases = family("ready", "standby", "standby")
    policy = traffic_policy.with_rolled_back(TrafficPolicy(), releases[0].sha256, "bad")
    assert planned(releases, policy) == (["0.2"], [])
    assert shares(releases, policy) == {"0.3": 1}
    assert planned(family("ready", "ready", "standby"), policy) == ([], ["0.3"])
    only = [release("iris 0.3", 3)]
    assert planned(only, policy) == ([], [])


def test_a_warm_standby_keeps_running_without_requests() -> None:
    """It stops when its time is over."""
    releases = family("ready", "ready", "standby")
    releases[1].warm_standby = True
    assert planned(releases, TrafficPolicy()) == ([], [])
    assert traffic_plan.plan_traffic(releases, TrafficPolicy()).routed == [releases[0]]
    releases[1].warm_standby = False
    assert planned(releases, TrafficPolicy()) == ([], ["0.2"])


def test_a_release_takes_over_once_all_of_its_workers_are_ready() -> None:
    """If no release serves, one ready worker is enough."""
    releases = family("ready", "ready", "standby")
    releases[0].pending_workers = 1
    assert shares(releases, TrafficPolicy()) == {"0.2": 1}
    assert planned(releases, TrafficPolicy()) == ([], [])
    releases[1].was_ready = False
    assert shares(releases, TrafficPolicy()) == {"0.3": 1}


def test_a_model_without_a_policy_needs_no_split() -> None:
    """Front doors then have nothing to choose from."""
    assert traffic_plan.plan_traffic(family("ready", "standby", "standby"), TrafficPolicy()).split_spec(TrafficPolicy()) is None
    assert traffic_plan.plan_traffic(family("standby", "standby", "standby"), TrafficPolicy()).routed == []


def test_replacing_a_file_in_place_does_not_bring_back_the_warm_standby() -> None:
    """The release that serves keeps serving until its replacement takes over."""
    new = release("iris 0.2", 5, "running", file="iris.pex")
    old = release("iris 0.2", 4, "running", ready=True, in_place=False, replaced_by=new)
    kept = release("iris 0.1", 3, "running", ready=True, warm_standby=True)
    (family_,) = planner.group_by_model([kept, old, new])
    assert family_ == [new, old, kept]
    assert traffic_plan.plan_traffic(family_, TrafficPolicy()).routed == [old]


def test_the_desired_release_is_the_named_one_or_else_the_newest() -> None:
    """It does not matter whether it is ready."""
    releases = family("running", "ready", "standby")

    def wanted(policy: TrafficPolicy) -> dict[str, int]:
        return {each.version: weight for each, weight in traffic_plan.desired_shares(releases, policy)}

    assert wanted(TrafficPolicy()) == {"0.3": 1}
    assert wanted(TrafficPolicy(pin="0.1")) == {"0.1": 1}
    assert wanted(traffic_policy.with_split(TrafficPolicy(), {"0.1": 3, "0.2": 1})) == {"0.1": 3, "0.2": 1}
    assert wanted(traffic_policy.with_rolled_back(TrafficPolicy(), releases[0].sha256, "it died")) == {"0.2": 1}
    assert traffic_plan.desired_shares([], TrafficPolicy()) == []


def test_a_warm_standby_is_the_fallback_of_a_release_on_probation_only() -> None:
    """It is in the routing table without a weight. A mirror is never a fallback, since its responses are dropped."""
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
