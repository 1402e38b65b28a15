"""Weighted choices among several releases."""

import itertools
import json
import subprocess
import sys

import pytest

from runtime.front.routing.weighted_choice import GOLDEN, SILVER, LowDiscrepancySequence, choose_weighted, rank_by_key

KEYS = [f"user {i}" for i in range(20_000)]


@pytest.mark.parametrize("weights", [[90, 10], [1, 1], [50, 30, 20], [9999, 1], [1] * 7])
@pytest.mark.parametrize(("first", "step"), [(0, 1), (317, 1), (0, 2), (1, 3)])
def test_a_sequence_gives_each_weight_its_share_of_any_stretch(weights, first, step):
    """This also holds for every second and every third point, which may be all that one endpoint gets."""
    rotation = LowDiscrepancySequence(GOLDEN)
    chosen = [choose_weighted(weights, rotation.next_point()) for _ in range(first + 1000 * step)][first::step]
    for place, weight in enumerate(weights):
        assert abs(chosen.count(place) - 1000 * weight / sum(weights)) <= 4


def test_mirroring_does_not_depend_on_which_release_answers():
    """The same fraction of a canary's 10 % is mirrored as of all requests."""
    answering, copying = LowDiscrepancySequence(GOLDEN), LowDiscrepancySequence(SILVER)
    both = [(choose_weighted([90, 10], answering.next_point()), copying.next_point() < 0.3) for _ in range(10_000)]
    assert abs(both.count((1, True)) - 300) <= 15
    assert abs(both.count((0, True)) - 2700) <= 15


def test_keys_are_divided_by_weight():
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
def test_a_rising_weight_attracts_keys_and_moves_none_between_others(before, after, to):
    """It attracts no more of them than it must."""
    moved = [(one, two) for key in KEYS if (one := rank_by_key(before, key)[0]) != (two := rank_by_key(after, key)[0])]
    assert {two for _, two in moved} == to
    gain = sum(after[name] / sum(after.values()) - before.get(name, 0) / sum(before.values()) for name in to)
    assert abs(len(moved) / len(KEYS) - gain) < 0.01


def test_only_the_keys_of_a_removed_name_move():
    """Each moves to the next name in its ranking, so it comes back when the first name does."""
    weights = {"a": 50, "b": 30, "c": 20}
    for key in KEYS[:2000]:
        order = rank_by_key(weights, key)
        without = {name: weight for name, weight in weights.items() if name != order[0]}
        assert rank_by_key(without, key) == order[1:]


def test_a_key_has_the_same_ranking_in_another_process():
    """Neither the order of the weights nor the hash seed matters."""
    code = "import json\nfrom runtime.front.routing.weighted_choice import rank_by_key\n"
    code += "print(json.dumps([rank_by_key({'b': 3, 'a': 5}, f'user {i}') for i in range(99)]))"
    environment = {"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": "7"}
    said = subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, check=True)
    assert json.loads(said.stdout) == [rank_by_key({"a": 5, "b": 3}, key) for key in itertools.islice(KEYS, 99)]
