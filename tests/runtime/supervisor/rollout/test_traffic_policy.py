"""The traffic policy of a model."""

from __future__ import annotations

import pytest

from base.errors import Conflict
from runtime.supervisor.rollout import traffic_policy
from runtime.supervisor.rollout.traffic_policy import Shadow, Split, TrafficPolicy


def test_a_pin_replaces_a_split_and_a_split_replaces_a_pin() -> None:
    """A policy has one or the other."""
    both = traffic_policy.with_split(traffic_policy.with_pin(TrafficPolicy(), "0.1.0"), {"0.1.0": 9, "0.2.0": 1}, "header:x-user")
    assert (both.pin, both.split) == ("", Split({"0.1.0": 9, "0.2.0": 1}, "header:x-user"))
    assert traffic_policy.with_pin(both, "0.2.0") == TrafficPolicy(pin="0.2.0")
    assert (
        traffic_policy.without_split(both)
        == traffic_policy.without_pin(traffic_policy.with_pin(TrafficPolicy(), "0.1.0"))
        == TrafficPolicy()
    )


@pytest.mark.parametrize("weights", [{}, {"0.1.0": 1}, {"0.1.0": 1, "0.2.0": 0}, {"0.1.0": 1, "0.2.0": -1}, {"0.1.0": 1, "0.2.0": 10_001}])
def test_a_split_with_invalid_weights_is_refused(weights: dict[str, int]) -> None:
    """A split needs at least two releases, each with a weight."""
    with pytest.raises(Conflict):
        traffic_policy.with_split(TrafficPolicy(), weights)


@pytest.mark.parametrize("by", ["user", "header:", "cookie:a", "column"])
def test_the_key_of_a_split_must_be_valid(by: str) -> None:
    """It names a header, a parameter or a column."""
    with pytest.raises(Conflict, match="header:NAME"):
        traffic_policy.with_split(TrafficPolicy(), {"a": 1, "b": 1}, by)


@pytest.mark.parametrize("percent", [0, -1, 100.1, float("nan")])
def test_a_shadow_receives_some_of_the_requests(percent: float) -> None:
    """The percentage is above 0 and at most 100."""
    with pytest.raises(Conflict):
        traffic_policy.with_shadow(TrafficPolicy(), "0.2.0", percent)
    assert traffic_policy.with_shadow(TrafficPolicy(), "0.2.0", 12.5).shadow == Shadow("0.2.0", 12.5)


def test_a_label_in_use_cannot_be_removed() -> None:
    """Otherwise the split would name nothing."""
    policy = traffic_policy.with_split(traffic_policy.with_label(TrafficPolicy(), "canary", "0.2.0"), {"0.1.0": 1, "canary": 1})
    assert policy.version_of("canary") == "0.2.0"
    with pytest.raises(Conflict, match="used"):
        traffic_policy.without_label(policy, "canary")
    assert traffic_policy.without_label(traffic_policy.without_split(policy), "canary").labels == {}


@pytest.mark.parametrize("label", ["", "Canary", "0.2.0", "a b", "a" * 33])
def test_a_label_must_not_look_like_a_version(label: str) -> None:
    """A name is either a label or a version."""
    with pytest.raises(Conflict):
        traffic_policy.with_label(TrafficPolicy(), label, "0.2.0")


def test_the_label_of_the_serving_release_cannot_be_moved_but_removed() -> None:
    """A policy that was stored by an older release may have it."""
    with pytest.raises(Conflict, match="stable is reserved"):
        traffic_policy.with_label(TrafficPolicy(), "stable", "0.1.0")
    assert traffic_policy.without_label(TrafficPolicy(labels={"stable": "0.1.0"}), "stable") == TrafficPolicy()


def test_a_promotion_removes_earlier_orders_against_the_release() -> None:
    """The newest release serves without a pin, so that the next one takes over from it; any other is pinned."""
    policy = traffic_policy.with_rolled_back(
        traffic_policy.with_shadow(traffic_policy.with_label(TrafficPolicy(), "canary", "0.2.0"), "canary", 50), "f" * 64, "it crashed"
    )
    assert traffic_policy.with_promotion(policy, "0.2.0", "f" * 64, newest=True) == TrafficPolicy(labels={"canary": "0.2.0"})
    assert traffic_policy.with_promotion(policy, "0.1.0", "a" * 64, newest=False).pin == "0.1.0"
    assert traffic_policy.with_promotion(policy, "0.1.0", "a" * 64, newest=False).shadow == Shadow("canary", 50)
