"""What operators say about the requests of a model."""

from __future__ import annotations

import pytest

from base.errors import Conflict
from runtime.supervisor.rollout import traffic_policy
from runtime.supervisor.rollout.traffic_policy import Shadow, Split, TrafficPolicy


def test_a_pin_ends_a_split_and_a_split_ends_a_pin() -> None:
    """Each says who serves all, or that nobody does."""
    both = traffic_policy.with_split(traffic_policy.with_pin(TrafficPolicy(), "0.1.0"), {"0.1.0": 9, "0.2.0": 1}, "header:x-user")
    assert (both.pin, both.split) == ("", Split({"0.1.0": 9, "0.2.0": 1}, "header:x-user"))
    assert traffic_policy.with_pin(both, "0.2.0") == TrafficPolicy(pin="0.2.0")
    assert (
        traffic_policy.without_split(both)
        == traffic_policy.without_pin(traffic_policy.with_pin(TrafficPolicy(), "0.1.0"))
        == TrafficPolicy()
    )


@pytest.mark.parametrize("weights", [{}, {"0.1.0": 1}, {"0.1.0": 1, "0.2.0": 0}, {"0.1.0": 1, "0.2.0": -1}, {"0.1.0": 1, "0.2.0": 10_001}])
def test_a_split_that_shares_nothing_is_refused(weights: dict[str, int]) -> None:
    """Two releases at least, each with some of the requests."""
    with pytest.raises(Conflict):
        traffic_policy.with_split(TrafficPolicy(), weights)


@pytest.mark.parametrize("by", ["user", "header:", "cookie:a", "column"])
def test_what_keeps_a_client_must_be_somewhere(by: str) -> None:
    """A header, a parameter or a column, by name."""
    with pytest.raises(Conflict, match="header:NAME"):
        traffic_policy.with_split(TrafficPolicy(), {"a": 1, "b": 1}, by)


@pytest.mark.parametrize("percent", [0, -1, 100.1, float("nan")])
def test_a_shadow_gets_some_of_the_requests(percent: float) -> None:
    """And not more than all."""
    with pytest.raises(Conflict):
        traffic_policy.with_shadow(TrafficPolicy(), "0.2.0", percent)
    assert traffic_policy.with_shadow(TrafficPolicy(), "0.2.0", 12.5).shadow == Shadow("0.2.0", 12.5)


def test_a_label_that_is_used_stays() -> None:
    """Else the split would name nothing."""
    said = traffic_policy.with_split(traffic_policy.with_label(TrafficPolicy(), "canary", "0.2.0"), {"0.1.0": 1, "canary": 1})
    assert said.version_of("canary") == "0.2.0"
    with pytest.raises(Conflict, match="used"):
        traffic_policy.without_label(said, "canary")
    assert traffic_policy.without_label(traffic_policy.without_split(said), "canary").labels == {}


@pytest.mark.parametrize("label", ["", "Canary", "0.2.0", "a b", "a" * 33])
def test_a_label_looks_like_no_version(label: str) -> None:
    """So a name is one or the other."""
    with pytest.raises(Conflict):
        traffic_policy.with_label(TrafficPolicy(), label, "0.2.0")


def test_a_promotion_forgets_what_was_said_against_it() -> None:
    """The newest serves as such, so that the next one takes over from it; any other is pinned."""
    said = traffic_policy.with_rolled_back(
        traffic_policy.with_shadow(traffic_policy.with_label(TrafficPolicy(), "canary", "0.2.0"), "canary", 50), "f" * 64, "it crashed"
    )
    assert traffic_policy.with_promotion(said, "0.2.0", "f" * 64, newest=True) == TrafficPolicy(labels={"canary": "0.2.0"})
    assert traffic_policy.with_promotion(said, "0.1.0", "a" * 64, newest=False).pin == "0.1.0"
    assert traffic_policy.with_promotion(said, "0.1.0", "a" * 64, newest=False).shadow == Shadow("canary", 50)
