"""Every order on every state of a release: whether it is accepted, what it brings about, and that words and deeds agree."""

from __future__ import annotations

import pytest

from base.errors import PexdockError
from release_states import release
from runtime.supervisor.rollout import policy_changes, traffic_policy
from runtime.supervisor.rollout.planner import plan_releases
from runtime.supervisor.rollout.release import Release
from runtime.supervisor.rollout.release_state import ReleaseState
from runtime.supervisor.rollout.traffic_plan import desired_shares, plan_traffic, standby_reason, unmet_orders
from runtime.supervisor.rollout.traffic_policy import TrafficPolicy

BROKEN = {"crash_count": 1, "pending_workers": 0}

STATES = {
    "standby": ({"state": "standby"}, False),
    "unpacking": ({"state": "unpacking"}, False),
    "starting": ({"state": "running", "pending_workers": 1}, False),
    "crash loop": ({"state": "running", **BROKEN}, False),
    "ready": ({"state": "running", "ready": True}, False),
    "warm standby": ({"state": "running", "ready": True, "warm_standby": True}, False),
    "rolled back": ({"state": "standby"}, True),
    "rolled back and mirrored": ({"state": "running", "ready": True}, True),
}
"""The states of 0.2, the newest release, while 0.1 serves, and whether it was rolled back."""

REFUSED = {("label", state) for state in ("standby", "unpacking", "starting", "crash loop")} | {
    (order, state) for order in ("pin", "split", "label") for state in ("rolled back", "rolled back and mirrored")
}
"""Only ready releases get a label; a release that was rolled back gets nothing but mirrored requests until it is promoted."""

ORDERS = {
    "pin": lambda policy: traffic_policy.with_pin(policy, "0.2"),
    "split": lambda policy: traffic_policy.with_split(policy, {"0.1": 1, "0.2": 1}),
    "shadow": lambda policy: traffic_policy.with_shadow(policy, "0.2", 100),
    "label": lambda policy: traffic_policy.with_label(policy, "canary", "0.2"),
}


def models(state: str) -> tuple[list[Release], TrafficPolicy]:
    """Returns 0.2 in a state and 0.1, which serves, with the policy by which 0.2 does not."""
    changes, is_rolled_back = STATES[state]
    new, old = release("iris 0.2", 1, **changes), release("iris 0.1", 0, "running", ready=True)
    policy = TrafficPolicy(rolled_back={new.sha256: "it failed"}) if is_rolled_back else TrafficPolicy(pin="0.1")
    if state.endswith("mirrored"):
        policy = traffic_policy.with_shadow(policy, "0.2", 10)
    return [new, old], policy


def give(order: str, releases: list[Release], policy: TrafficPolicy) -> TrafficPolicy:
    if order == "promote":
        return policy_changes.promote_release(policy, "0.2", releases)
    if order == "promote the newest":
        return policy_changes.promote_release(policy, None, releases)
    return policy_changes.validate_change(policy, ORDERS[order](policy), releases)


def carry_out(releases: list[Release], policy: TrafficPolicy) -> None:
    """Starts and stops what the planner says until nothing changes. A release in a crash loop stays in it."""
    for _ in range(5):
        plan = plan_releases(releases, {"iris": policy})
        for each in plan.stop:
            each.machine.state, each.was_ready = ReleaseState.STANDBY, False
        for each in [*plan.start, *releases]:
            if each in plan.start or each.state is ReleaseState.UNPACKING or (each.state is ReleaseState.RUNNING and not each.crash_count):
                each.machine.state, each.was_ready, each.pending_workers = ReleaseState.RUNNING, True, 0


def brought_about(order: str, releases: list[Release], policy: TrafficPolicy) -> bool:
    plan = plan_traffic(releases, policy)
    serving = {each.version: weight for each, weight in plan.shares}
    match order:
        case "split":
            return serving == {"0.1": 1, "0.2": 1}
        case "shadow":
            return plan.mirror is releases[0] and serving == {"0.1": 1}
        case "label":
            return plan.labels == {"canary": releases[0]} and serving == {"0.1": 1}
        case _:
            return serving == {"0.2": 1}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("order", [*ORDERS, "promote", "promote the newest"])
def test_words_and_deeds_agree(order: str, state: str) -> None:
    releases, policy = models(state)
    new, old = releases
    if (order, state) in REFUSED:
        with pytest.raises(PexdockError, match="was rolled back: it failed; promote it" if "rolled back" in state else "is not ready"):
            give(order, releases, policy)
        carry_out(releases, policy)
        assert [each for each, _ in plan_traffic(releases, policy).shares] == [old]
        return
    after = give(order, releases, policy)
    carry_out(releases, after)
    words = [line for line in unmet_orders(releases, after) if "0.2" in line]
    if state == "crash loop":
        assert not brought_about(order, releases, after)
        if order.startswith("promote"):  # without an order that stays, the desired release says it
            assert [each.version for each, _ in desired_shares(releases, after)] == ["0.2"]
        else:
            assert len(words) == 1
            assert "0.2 is not ready: its state is restarting" in words[0]
    else:
        assert brought_about(order, releases, after)
        assert words == []
        assert after.pin != "0.2" or plan_traffic(releases, after).shares[0][0] is new


@pytest.mark.parametrize("state", STATES)
def test_a_release_that_does_not_run_says_why(state: str) -> None:
    """The newest one is never told that a newer one is there."""
    releases, policy = models(state)
    carry_out(releases, policy)
    reason = standby_reason(releases[0], releases, policy)
    if "rolled back" in state:
        assert reason == "it was rolled back and does not serve until it is promoted: it failed"
    else:
        assert reason == "0.1 is pinned"
    older = standby_reason(releases[1], releases, TrafficPolicy())
    assert older == "a newer release of the model is there"
    assert standby_reason(releases[1], releases, TrafficPolicy(split=traffic_policy.Split({"0.2": 1, "0.3": 1}))) == (
        "requests are split between 0.2, 0.3"
    )


def test_orders_that_a_later_one_overrides_are_named() -> None:
    """A mirror to the release that serves, and labels of releases that were rolled back or are gone."""
    releases, _ = models("ready")
    new = releases[0]
    policy = traffic_policy.with_shadow(TrafficPolicy(labels={"gone": "9"}), "0.2", 10)
    assert unmet_orders(releases, policy) == [
        "requests should be mirrored to 0.2, but 0.2 serves",
        "label gone is on 9, but there is no release 9 that could serve",
    ]
    policy = TrafficPolicy(labels={"canary": "0.2"}, rolled_back={new.sha256: "it failed"})
    assert unmet_orders(releases, policy) == ["label canary is on 0.2, but 0.2 was rolled back"]


def test_a_model_whose_only_release_was_rolled_back_desires_nothing() -> None:
    """Since it is never started to serve."""
    new = release("iris 0.2", 1, "standby")
    policy = TrafficPolicy(rolled_back={new.sha256: "it failed"})
    carry_out([new], policy)
    assert new.state is ReleaseState.STANDBY
    assert desired_shares([new], policy) == []
