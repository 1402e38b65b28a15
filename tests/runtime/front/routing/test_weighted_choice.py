"""Who of several gets a request."""

import itertools
import json
import subprocess
import sys

import pytest

from runtime.front.routing.weighted_choice import GOLDEN, SILVER, LowDiscrepancySequence, choose_weighted, rank_by_key

KEYS = [f"user {i}" for i in range(20_000)]


@pytest.mark.parametrize("weights", [[90, 10], [1, 1], [50, 30, 20], [9999, 1], [1] * 7])
@pytest.mark.parametrize(("first", "step"), [(0, 1), (317, 1), (0, 2), (1, 3)])
def test_turns_give_each_its_share_of_any_stretch_of_them(weights, first, step):
    """Also of every second and of every third, which may be all that one endpoint gets."""
    rotation = LowDiscrepancySequence(GOLDEN)
    chosen = [choose_weighted(weights, rotation.next_point()) for _ in range(first + 1000 * step)][first::step]
    for place, weight in enumerate(weights):
        assert abs(chosen.count(place) - 1000 * weight / sum(weights)) <= 4


def test_who_is_copied_does_not_depend_on_who_answers():
    """Of the requests of a canary with 10 % just as many are copied as of all."""
    answering, copying = LowDiscrepancySequence(GOLDEN), LowDiscrepancySequence(SILVER)
    both = [(choose_weighted([90, 10], answering.next_point()), copying.next_point() < 0.3) for _ in range(10_000)]
    assert abs(both.count((1, True)) - 300) <= 15
    assert abs(both.count((0, True)) - 2700) <= 15


def test_keys_are_shared_by_weight():
    first = [rank_by_key({"a": 50, "b": 30, "c": 20}, key)[0] for key in KEYS]
    for name, part in (("a", 0.5), ("b", 0.3), ("c", 0.2)):
        assert abs(first.count(name) / len(KEYS) - part) < 0.01


@pytest.mark.parametrize(
    ("before", "after", "to"),
    [
        ({"a": 90, "b": 10}, {"a": 80, "b": 20}, {"b"}),
        ({"a": 50, "b": 30, "c": 20}, {"a": 50, "b": 30, "c": 30}, {"c"}),
        ({"a": 50, "b": 50}, {"a": 50, "b": 50, "c": 10}, {"c"}),
    ],
)
def test_a_weight_that_rises_draws_keys_to_it_and_moves_none_between_others(before, after, to):
    """And no more of them than it must."""
    moved = [(one, two) for key in KEYS if (one := rank_by_key(before, key)[0]) != (two := rank_by_key(after, key)[0])]
    assert {two for _, two in moved} == to
    gain = sum(after[name] / sum(after.values()) - before.get(name, 0) / sum(before.values()) for name in to)
    assert abs(len(moved) / len(KEYS) - gain) < 0.01


def test_where_one_goes_only_its_own_keys_move():
    """Each to the one that came next for it, so it is there again for them when the first is back."""
    weights = {"a": 50, "b": 30, "c": 20}
    for key in KEYS[:2000]:
        order = rank_by_key(weights, key)
        without = {name: weight for name, weight in weights.items() if name != order[0]}
        assert rank_by_key(without, key) == order[1:]


def test_a_key_leads_to_the_same_in_another_process():
    """Whatever the order of the weights, and of its hashes."""
    code = "import json\nfrom runtime.front.routing.weighted_choice import rank_by_key\n"
    code += "print(json.dumps([rank_by_key({'b': 3, 'a': 5}, f'user {i}') for i in range(99)]))"
    environment = {"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": "7"}
    said = subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, check=True)
    assert json.loads(said.stdout) == [rank_by_key({"a": 5, "b": 3}, key) for key in itertools.islice(KEYS, 99)]
