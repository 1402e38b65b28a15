"""The table of model states: each row, and each policy of readiness, against values worked out by hand."""

import pytest

import states
from runtime.model_state import MEANINGS, ModelFacts, ModelState, ReadinessPolicy, machine_is_ready

S = ModelState

ROWS = {
    # state: path, ready, and whether /readyz is 200 beside a ready model, by: started (new, has served, was ready), all, its name, any
    S.UNKNOWN: (404, False, (True, True, True), True, False, True),
    S.STARTING: (503, False, (False, False, True), False, False, True),
    S.WARMING: (503, False, (False, False, True), False, False, True),
    S.READY: (200, True, (True, True, True), True, True, True),
    S.DEGRADED: (200, True, (True, True, True), True, True, True),
    S.RESTARTING: (503, False, (False, False, True), False, False, True),
    S.FAILED: (503, False, (False, False, True), False, False, True),
    S.REFUSED: (503, False, (True, False, True), False, False, True),
    S.RETIRING: (200, False, (False, False, False), False, False, False),
}


def test_the_table_has_every_state_once():
    assert list(MEANINGS) == list(ModelState) == list(ROWS)


@pytest.mark.parametrize("state", ModelState)
def test_a_row(state):
    path, ready, by_started, by_all, by_name, by_any = ROWS[state]
    assert (MEANINGS[state].path_status, MEANINGS[state].ready) == (path, ready)
    histories = [{}, {"has_served": True}, {"has_served": True, "was_ready": True}]
    assert tuple(states.is_machine_ready("started", state, **history) for history in histories) == by_started
    served = {"has_served": True, "was_ready": True}
    assert states.is_machine_ready("all", state, **served) == states.is_machine_ready("served", state, **served) == by_all
    assert states.is_machine_ready("a", state, **served) == by_name
    assert states.is_machine_ready("any", state, **served) == by_any


def test_the_page_has_the_tables_of_the_code():
    """Run `scripts/states.py --update` after a change."""
    text = states.PAGE.read_text()
    assert states.updated_page(text) == text
    assert all(f"| `{state}` |" in text for state in ModelState)


@pytest.mark.parametrize("policy", ["started", "all", "served", "any", "a"])
@pytest.mark.parametrize("state", [state for state, row in ROWS.items() if not row[1] and state is not S.UNKNOWN])
def test_a_machine_whose_models_are_all_not_ready_is_not_ready(policy, state):
    """By any policy and in any state, also if all were refused."""
    facts = {"a": ModelFacts(state), "b": ModelFacts(state, was_ready=True)}
    rule = ReadinessPolicy.parse(policy)
    assert not machine_is_ready([], rule.required(facts), one_required=rule.needs_one(facts))


@pytest.mark.parametrize(
    ("policy", "fresh", "served_before"), [("started", 1, 0), ("all", 1, 0), ("served", 1, 0), ("any", 0, 0), ("a", 0, 0)]
)
def test_an_empty_dist_is_ready_unless_something_should_be_there(policy, fresh, served_before):
    rule = ReadinessPolicy.parse(policy)
    lost = {"a": ModelFacts(S.UNKNOWN, at_start=False, has_served=True)}
    assert machine_is_ready([], rule.required({}), one_required=rule.needs_one({})) == bool(fresh)
    assert machine_is_ready([], rule.required(lost), one_required=rule.needs_one(lost)) == bool(served_before)


def test_a_model_that_came_later_does_not_hold_the_machine_by_default():
    """Or a bad new model would take the others out of service."""
    facts = {"new": ModelFacts(S.FAILED, at_start=False), "old": ModelFacts(S.READY, was_ready=True)}
    assert ReadinessPolicy.parse("started").required(facts) == []
    assert ReadinessPolicy.parse("all").required(facts) == ["new", "old"]


def test_names_are_normalized_and_anything_else_is_an_error():
    assert ReadinessPolicy.parse("My_Iris, fraud").required({}) == ["fraud", "my-iris"]
    for wrong in ("", "a,,b", "a b", "*", "NAME,NAME,"):
        with pytest.raises(ValueError, match="use started"):
            ReadinessPolicy.parse(wrong)
