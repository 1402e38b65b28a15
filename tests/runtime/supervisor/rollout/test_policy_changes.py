"""Changes of a policy, checked against the releases that exist."""

from __future__ import annotations

import pytest

from base.errors import Conflict, NotFound
from release_states import release
from runtime.supervisor.rollout import policy_changes, traffic_policy
from runtime.supervisor.rollout.traffic_policy import TrafficPolicy

OLD = release("iris 0.1.0", 0, "running", ready=True)
NEW = release("iris 0.2.0", 1)
NEWEST = release("iris 0.3.0", 2)
FAMILY = [NEWEST, NEW, OLD]


def test_a_version_is_stored_as_its_release_has_it() -> None:
    """The operator may write it in any form that PEP 440 allows."""
    assert policy_changes.validate_change(TrafficPolicy(), traffic_policy.with_pin(TrafficPolicy(), "v0.2"), FAMILY).pin == "0.2.0"
    policy = policy_changes.validate_change(
        TrafficPolicy(), traffic_policy.with_split(TrafficPolicy(), {"0.1": 9, "0.2.0.0": 1}, "header:x-user"), FAMILY
    )
    assert policy.split is not None
    assert (policy.split.weights, policy.split.by) == ({"0.1.0": 9, "0.2.0": 1}, "header:x-user")


@pytest.mark.parametrize(
    "after",
    [
        traffic_policy.with_pin(TrafficPolicy(), "9"),
        traffic_policy.with_shadow(TrafficPolicy(), "nightly", 10),
        traffic_policy.with_split(TrafficPolicy(), {"0.1": 1, "9": 1}),
    ],
)
def test_a_release_that_does_not_exist_is_refused_with_a_list_of_those_that_do(after: TrafficPolicy) -> None:
    """This holds for a pin, a split and a shadow."""
    with pytest.raises(NotFound, match=r"there are 0\.3\.0, 0\.2\.0, 0\.1\.0"):
        policy_changes.validate_change(TrafficPolicy(), after, FAMILY)


def test_a_split_names_each_release_once() -> None:
    """Otherwise its weights would not be those of the order."""
    policy = TrafficPolicy(labels={"canary": "0.2.0"})
    with pytest.raises(Conflict, match="same release"):
        policy_changes.validate_change(policy, traffic_policy.with_split(policy, {"canary": 1, "0.2.0": 9}), FAMILY)


def test_a_label_moves_only_to_a_release_that_is_ready() -> None:
    """A request for the label must be answered."""
    assert policy_changes.validate_change(TrafficPolicy(), traffic_policy.with_label(TrafficPolicy(), "old", "0.1"), FAMILY).labels == {
        "old": "0.1.0"
    }
    with pytest.raises(Conflict, match=r"iris 0\.2\.0 is not ready"):
        policy_changes.validate_change(TrafficPolicy(), traffic_policy.with_label(TrafficPolicy(), "canary", "0.2.0"), FAMILY)
    with pytest.raises(Conflict, match="not a version"):
        policy_changes.validate_change(TrafficPolicy(), traffic_policy.with_label(TrafficPolicy(), "canary", "old"), FAMILY)


def test_requests_are_mirrored_only_to_a_release_that_does_not_serve() -> None:
    """A serving release would be compared with itself."""
    with pytest.raises(Conflict, match=r"iris 0\.1\.0 already serves"):
        policy_changes.validate_change(TrafficPolicy(), traffic_policy.with_shadow(TrafficPolicy(), "0.1.0", 10), FAMILY)


def test_a_release_that_was_rolled_back_must_be_promoted_first() -> None:
    """The error has the reason of the rollback, and a promotion removes it."""
    policy = traffic_policy.with_rolled_back(TrafficPolicy(), NEW.sha256, "it crashed")
    with pytest.raises(Conflict, match="it crashed; promote it"):
        policy_changes.validate_change(policy, traffic_policy.with_pin(policy, "0.2.0"), FAMILY)
    assert policy_changes.promote_release(policy, "0.2.0", FAMILY) == TrafficPolicy(pin="0.2.0")


def test_earlier_orders_are_not_checked_again() -> None:
    """Otherwise one wrong order could not be corrected while another one is wrong."""
    policy = TrafficPolicy(pin="7.0", shadow=traffic_policy.Shadow("8.0"))
    assert policy_changes.validate_change(policy, traffic_policy.without_pin(policy), FAMILY) == TrafficPolicy(
        shadow=traffic_policy.Shadow("8.0")
    )


def test_the_newest_release_is_promoted_without_a_pin_and_any_other_is_pinned() -> None:
    """The next drop takes over from the newest release, and not from one that an operator chose."""
    pinned = TrafficPolicy(pin="0.1.0")
    assert policy_changes.promote_release(pinned, None, FAMILY) == TrafficPolicy()
    assert policy_changes.promote_release(pinned, "0.3", FAMILY) == TrafficPolicy()
    assert policy_changes.promote_release(pinned, "0.2", FAMILY) == TrafficPolicy(pin="0.2.0")
    with pytest.raises(NotFound):
        policy_changes.promote_release(pinned, "9", FAMILY)


def test_a_rollback_returns_to_the_release_that_served_last_and_the_next_drop_takes_over() -> None:
    """A pin is left only if a release that never served would take over."""
    served = TrafficPolicy(served=[OLD.sha256, NEW.sha256, NEWEST.sha256])
    after = policy_changes.roll_back_to_previous(served, FAMILY, [NEWEST], "bad")
    assert (after.pin, after.rolled_back) == ("", {NEWEST.sha256: "bad"})
    again = policy_changes.roll_back_to_previous(after, FAMILY, [NEW], "bad, too")
    assert (again.pin, list(again.rolled_back)) == ("", [NEWEST.sha256, NEW.sha256])
    with pytest.raises(Conflict, match="no release that served before is left"):
        policy_changes.roll_back_to_previous(again, FAMILY, [OLD], "all bad")
    skipped = policy_changes.roll_back_to_previous(TrafficPolicy(pin="0.2.0", served=[OLD.sha256, NEW.sha256]), FAMILY, [NEW], "bad")
    assert (skipped.pin, skipped.rolled_back) == ("0.1.0", {NEW.sha256: "bad"})


def test_a_rollback_of_a_split_returns_to_the_release_that_served_alone_before() -> None:
    """The other release is rolled back, and does not return as the newest."""
    policy = traffic_policy.with_split(TrafficPolicy(served=[OLD.sha256]), {"0.1.0": 9, "0.3.0": 1})
    after = policy_changes.roll_back_to_previous(policy, [NEWEST, OLD], [OLD, NEWEST], "no")
    assert (after.split, after.pin, after.rolled_back) == (None, "", {NEWEST.sha256: "no"})


def test_a_rollback_can_return_to_the_previous_content_of_the_same_version() -> None:
    """A file was replaced in place, and both contents are `0.2.0`."""
    bad = release("iris 0.2.0", 3, "running", ready=True, file="iris.pex")
    good = release("iris 0.2.0", 1, "running", ready=True, in_place=False, replaced_by=bad)
    family = [bad, good]
    after = policy_changes.roll_back_to_previous(TrafficPolicy(served=[good.sha256, bad.sha256]), family, [bad], "bad")
    assert after.rolled_back == {bad.sha256: "bad"}
    assert after.pin == ""
