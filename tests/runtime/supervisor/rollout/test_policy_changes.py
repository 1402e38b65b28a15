"""What operators order, against the releases that are there."""

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


def test_a_version_is_kept_as_its_release_has_it() -> None:
    """However the operator wrote it."""
    assert policy_changes.validate_change(TrafficPolicy(), traffic_policy.with_pin(TrafficPolicy(), "v0.2"), FAMILY).pin == "0.2.0"
    said = policy_changes.validate_change(
        TrafficPolicy(), traffic_policy.with_split(TrafficPolicy(), {"0.1": 9, "0.2.0.0": 1}, "header:x-user"), FAMILY
    )
    assert said.split is not None
    assert (said.split.weights, said.split.by) == ({"0.1.0": 9, "0.2.0": 1}, "header:x-user")


@pytest.mark.parametrize(
    "after",
    [
        traffic_policy.with_pin(TrafficPolicy(), "9"),
        traffic_policy.with_shadow(TrafficPolicy(), "nightly", 10),
        traffic_policy.with_split(TrafficPolicy(), {"0.1": 1, "9": 1}),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(after: TrafficPolicy) -> None:
    """In a pin, a split and a shadow."""
    with pytest.raises(NotFound, match=r"there are 0\.3\.0, 0\.2\.0, 0\.1\.0"):
        policy_changes.validate_change(TrafficPolicy(), after, FAMILY)


def test_a_split_names_each_release_once() -> None:
    """Else its weights would not be those that were said."""
    said = TrafficPolicy(labels={"canary": "0.2.0"})
    with pytest.raises(Conflict, match="same release"):
        policy_changes.validate_change(said, traffic_policy.with_split(said, {"canary": 1, "0.2.0": 9}), FAMILY)


def test_a_label_moves_only_to_what_is_ready() -> None:
    """A client that asks for it must be answered."""
    assert policy_changes.validate_change(TrafficPolicy(), traffic_policy.with_label(TrafficPolicy(), "stable", "0.1"), FAMILY).labels == {
        "stable": "0.1.0"
    }
    with pytest.raises(Conflict, match=r"iris 0\.2\.0 is not ready"):
        policy_changes.validate_change(TrafficPolicy(), traffic_policy.with_label(TrafficPolicy(), "canary", "0.2.0"), FAMILY)
    with pytest.raises(Conflict, match="not a version"):
        policy_changes.validate_change(TrafficPolicy(), traffic_policy.with_label(TrafficPolicy(), "canary", "stable"), FAMILY)


def test_copies_go_to_what_does_not_serve() -> None:
    """It would be compared with itself."""
    with pytest.raises(Conflict, match=r"iris 0\.1\.0 already serves"):
        policy_changes.validate_change(TrafficPolicy(), traffic_policy.with_shadow(TrafficPolicy(), "0.1.0", 10), FAMILY)


def test_what_was_taken_back_must_be_promoted_first() -> None:
    """The refusal says why it was, and a promotion forgets it."""
    said = traffic_policy.with_rolled_back(TrafficPolicy(), NEW.sha256, "it crashed")
    with pytest.raises(Conflict, match="it crashed; promote it"):
        policy_changes.validate_change(said, traffic_policy.with_pin(said, "0.2.0"), FAMILY)
    assert policy_changes.promote_release(said, "0.2.0", FAMILY) == TrafficPolicy(pin="0.2.0")


def test_what_was_said_before_is_not_checked_again() -> None:
    """Else the one wrong thing could not be mended while another one is wrong."""
    said = TrafficPolicy(pin="7.0", shadow=traffic_policy.Shadow("8.0"))
    assert policy_changes.validate_change(said, traffic_policy.without_pin(said), FAMILY) == TrafficPolicy(
        shadow=traffic_policy.Shadow("8.0")
    )


def test_the_newest_is_promoted_as_such_and_any_other_is_pinned() -> None:
    """So that the next drop takes over from the newest, and from nothing that was chosen by hand."""
    pinned = TrafficPolicy(pin="0.1.0")
    assert policy_changes.promote_release(pinned, None, FAMILY) == TrafficPolicy()
    assert policy_changes.promote_release(pinned, "0.3", FAMILY) == TrafficPolicy()
    assert policy_changes.promote_release(pinned, "0.2", FAMILY) == TrafficPolicy(pin="0.2.0")
    with pytest.raises(NotFound):
        policy_changes.promote_release(pinned, "9", FAMILY)


def test_a_rollback_returns_to_what_served_last_and_the_next_drop_takes_over_again() -> None:
    """No pin is left, but where a release that never served would take over."""
    served = TrafficPolicy(served=[OLD.sha256, NEW.sha256, NEWEST.sha256])
    after = policy_changes.roll_back_to_previous(served, FAMILY, [NEWEST], "bad")
    assert (after.pin, after.rolled_back) == ("", {NEWEST.sha256: "bad"})
    again = policy_changes.roll_back_to_previous(after, FAMILY, [NEW], "bad, too")
    assert (again.pin, list(again.rolled_back)) == ("", [NEWEST.sha256, NEW.sha256])
    with pytest.raises(Conflict, match="no release that served before is left"):
        policy_changes.roll_back_to_previous(again, FAMILY, [OLD], "all bad")
    skipped = policy_changes.roll_back_to_previous(TrafficPolicy(pin="0.2.0", served=[OLD.sha256, NEW.sha256]), FAMILY, [NEW], "bad")
    assert (skipped.pin, skipped.rolled_back) == ("0.1.0", {NEW.sha256: "bad"})


def test_a_rollback_of_a_split_returns_to_what_served_alone_before() -> None:
    """The other one is taken back, and does not come back as the newest."""
    said = traffic_policy.with_split(TrafficPolicy(served=[OLD.sha256]), {"0.1.0": 9, "0.3.0": 1})
    after = policy_changes.roll_back_to_previous(said, [NEWEST, OLD], [OLD, NEWEST], "no")
    assert (after.split, after.pin, after.rolled_back) == (None, "", {NEWEST.sha256: "no"})


def test_the_content_before_of_one_version_can_be_returned_to() -> None:
    """A file was replaced in place, and both are `0.2.0`."""
    bad = release("iris 0.2.0", 3, "running", ready=True, file="iris.pex")
    good = release("iris 0.2.0", 1, "running", ready=True, in_place=False, replaced_by=bad)
    family = [bad, good]
    after = policy_changes.roll_back_to_previous(TrafficPolicy(served=[good.sha256, bad.sha256]), family, [bad], "bad")
    assert after.rolled_back == {bad.sha256: "bad"}
    assert after.pin == ""
