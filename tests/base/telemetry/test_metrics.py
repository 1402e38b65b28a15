"""The summary of many values, and the definitions of metrics."""

import math
import random
from pathlib import Path

import pytest

from base.telemetry.metrics import METRICS, Unit
from base.telemetry.reservoir import Reservoir


def collected(values, values_max):
    found = Reservoir(values_max)
    for value in values:
        found.record(value)
    return found


@pytest.mark.parametrize("count", [1, 7, 100, 1023, 1024, 1025])
def test_values_within_the_limit_are_all_kept_in_order(count):
    """Nothing is sampled without need."""
    given = [random.uniform(-5, 5) for _ in range(count)]
    values = collected(given, 2000).summary()
    assert values.sample == given
    assert (values.count, values.min, values.max) == (count, min(given), max(given))
    assert math.isclose(values.sum, math.fsum(given), abs_tol=1e-9)


@pytest.mark.parametrize(("count", "values_max"), [(101, 100), (1024, 100), (10_000, 100), (5000, 1024), (5000, 1500), (3, 1)])
def test_of_more_values_a_sample_is_kept_and_the_totals_are_exact(count, values_max):
    """Memory and reports are bounded; sums are not estimates."""
    given = [float(each) for each in range(count)]
    values = collected(given, values_max).summary()
    assert len(values.sample) == values_max == len(set(values.sample))
    assert set(values.sample) <= set(given)
    assert (values.count, values.sum, values.min, values.max) == (count, sum(given), 0.0, count - 1.0)


def test_every_value_is_equally_likely_to_be_in_the_sample():
    """Position does not matter: 4000 samples of 5 out of 3000 values are compared by tenths."""
    random.seed(7)
    tenths = [0] * 10
    for _ in range(4000):
        found = Reservoir(5)
        found._fresh = list(range(3000))
        for value in found.summary().sample:
            tenths[int(value) // 300] += 1
    expected = 4000 * 5 / 10
    chi_square = sum((seen - expected) ** 2 / expected for seen in tenths)
    assert chi_square < 27.9, tenths  # the 99.9 % point of 9 degrees of freedom


def test_values_can_be_folded_in_parts_or_at_once():
    """A fold in between changes nothing: the count of sampled values is kept across folds."""
    random.seed(3)
    means = []
    for _ in range(200):
        values = collected(range(4000), 50).summary()
        means.append(sum(values.sample) / 50)
    assert abs(sum(means) / len(means) - 1999.5) < 60  # five standard deviations of the mean


def test_a_summary_can_be_taken_twice_and_more_values_may_follow():
    """A summary does not consume the values."""
    found = collected([3.0, 1.0], 10)
    assert len(found) == 2
    assert found.summary() == found.summary()
    found.record(2.0)
    assert (len(found), found.summary().sample) == (3, [3.0, 1.0, 2.0])


def test_an_empty_reservoir_is_false():
    """Empty measures are left out of reports."""
    assert not Reservoir(10)
    assert collected([0.0], 10)


def test_every_metric_is_defined_in_one_sentence():
    """The meaning is defined once, for people and for formats that carry it."""
    for name, measure in METRICS.items():
        assert name.isidentifier()
        assert measure.description.endswith(".")


def test_the_documentation_defines_every_metric_as_the_code_does():
    """The rows of its table use the same words."""
    text = (Path(__file__).parents[3] / "docs" / "operations" / "metrics.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| `") and any(f"| {unit} |" in line for unit in Unit)]
    assert rows == [f"| `{name}` | {measure.unit} | {measure.description} |" for name, measure in METRICS.items()]
