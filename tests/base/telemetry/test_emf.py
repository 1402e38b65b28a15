"""Lines of metrics, checked against the format's published schema and its limits."""

import json
import time

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.ipc.metrics_report import MetricsReport, ValueSummary
from base.telemetry.emf import Emf, emf_lines
from base.telemetry.metrics import METRICS, Unit
from base.telemetry.reports import process_report
from emf import Totals, checked


def now_ms():
    return int(time.time() * 1000)


def values(sample, count=None):
    return ValueSummary(count or len(sample), sum(sample), min(sample), max(sample), list(sample))


def measured(counts, values):
    return MetricsReport(now_ms(), "iris", "1.0", "predict", counts, values)


def written(*measures):
    return b"".join(line for each in measures for line in emf_lines(each, "Pexdock"))


names = st.text(min_size=1, max_size=40)
finite = st.floats(0, 1e9)
samples = st.lists(finite, min_size=1, max_size=250).map(values)
reports = st.builds(
    MetricsReport,
    st.builds(now_ms),
    names,
    names,
    names,
    st.dictionaries(st.sampled_from([name for name in METRICS if name.endswith(("s", "ed"))]), st.integers(0, 10**9), min_size=1),
    st.dictionaries(st.sampled_from(["Latency", "QueueTime", "HandlerTime", "LoadTime"]), samples),
)


@given(st.lists(reports, max_size=3))
def test_every_report_becomes_valid_and_complete_lines(reported):
    """For any names, counts and values, each line is valid, no metric has over 100 values, and nothing is lost."""
    totals = Totals(written(*reported))
    assert sum(sum(counts.values()) for counts in totals.counts.values()) == sum(sum(each.counts.values()) for each in reported)
    for name in ("Latency", "QueueTime", "HandlerTime", "LoadTime"):
        said = sorted(value for by_name in totals.values.values() for value in by_name[name])
        meant = sorted(round(value, 3) for each in reported if name in each.summaries for value in each.summaries[name].sample)
        assert said == meant


@pytest.mark.parametrize(("count", "line_count"), [(1, 1), (100, 1), (101, 2), (500, 5), (501, 6)])
def test_a_line_holds_at_most_100_values_of_a_metric(count, line_count):
    """The format drops the rest of a longer array, so more values take more lines. Only the first line has counts."""
    whole = written(measured({"Requests": count}, {"Latency": values(range(count)), "BatchSize": values([3])}))
    documents = [checked(line) for line in whole.splitlines(keepends=True)]
    assert len(documents) == line_count
    assert [document.get("Requests") for document in documents] == [count] + [None] * (line_count - 1)
    assert [value for document in documents for value in document["Latency"]] == list(range(count))
    assert ["BatchSize" in document for document in documents] == [True] + [False] * (line_count - 1)


def test_a_line_has_dimensions_and_units():
    """Dimensions are model and endpoint, and model alone. The version is a property for searches, and no dimension."""
    (line,) = written(measured({"Requests": 2, "Errors": 0}, {"Latency": values([1.23456, 2])})).splitlines(True)
    document = checked(line)
    directive = document.pop("_aws")["CloudWatchMetrics"][0]
    assert directive == {
        "Namespace": "Pexdock",
        "Dimensions": [["Model", "Endpoint"], ["Model"]],
        "Metrics": [
            {"Name": "Requests", "Unit": "Count"},
            {"Name": "Errors", "Unit": "Count"},
            {"Name": "Latency", "Unit": "Milliseconds"},
        ],
    }
    assert document == {
        "Model": "iris",
        "Endpoint": "predict",
        "Version": "1.0",
        "Requests": 2,
        "Errors": 0,
        "Latency": [1.235, 2.0],
        "Summaries": {"Latency": {"Count": 2, "Sum": 3.235, "Min": 1.235, "Max": 2.0}},
    }


def test_summaries_are_exact_where_the_values_are_a_sample():
    """A reader recognizes a sample by the count."""
    document = checked(written(measured({}, {"Latency": ValueSummary(9000, 18000.5, 0.001, 99.0, [2.0, 3.0])})))
    assert document["Latency"] == [2.0, 3.0]
    assert document["Summaries"]["Latency"] == {"Count": 9000, "Sum": 18000.5, "Min": 0.001, "Max": 99.0}


def test_an_unknown_metric_is_written_without_a_unit():
    """A worker may run on a base that has more metrics than the supervisor's."""
    document = checked(written(measured({"Novelties": 3}, {})))
    assert document["_aws"]["CloudWatchMetrics"][0]["Metrics"] == [{"Name": "Novelties", "Unit": "None"}]


def test_no_metric_has_the_name_of_a_property():
    """Both are members of the root."""
    assert not {"Model", "Endpoint", "Version", "Summaries", "_aws"} & set(METRICS)
    assert set(Unit) <= {"Count", "Milliseconds"}


def test_the_checks_of_these_tests_reject_invalid_lines():
    """A check that accepts everything would prove nothing."""
    (good,) = written(measured({"Requests": 2}, {"Latency": values([1.0])})).splitlines(True)
    assert checked(good)

    def broken(change):
        document = json.loads(good)
        change(document, document["_aws"]["CloudWatchMetrics"][0])
        return json.dumps(document).encode() + b"\n"

    for change in (
        lambda document, directive: document.pop("_aws"),
        lambda document, directive: document.pop("Model"),
        lambda document, directive: document.pop("Latency"),
        lambda document, directive: document.update(Model=3),
        lambda document, directive: document.update(Latency=[1.0] * 101),
        lambda document, directive: document.update(Latency="slow"),
        lambda document, directive: document.update(Latency=None),
        lambda document, directive: document["_aws"].update(Timestamp=time.time()),
        lambda document, directive: directive.update(Namespace=""),
        lambda document, directive: directive.update(Dimensions=[]),
        lambda document, directive: directive["Metrics"].append({"Unit": "Count"}),
        lambda document, directive: directive["Metrics"][0].update(Unit="Rows"),
    ):
        with pytest.raises((AssertionError, KeyError, jsonschema.ValidationError)):
            checked(broken(change))


def test_the_metrics_config_is_part_of_the_emf_options():
    """`Emf` is one small frozen object."""
    measuring = Emf("metrics.log", interval_s=3, values_max=7).metrics_config
    assert (measuring.interval_s, measuring.values_max) == (3, 7)


def test_metrics_of_a_whole_model_have_no_dimension_of_an_endpoint():
    """CloudWatch refuses an empty dimension."""
    (line,) = emf_lines(MetricsReport(1_700_000_000_000, "iris", "", "", {"ModelReady": 1}, {}), "Pexdock")
    document = json.loads(line)
    assert document["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["Model"]]
    assert (document["Model"], document["ModelReady"]) == ("iris", 1)


def test_a_metric_of_a_process_names_no_model():
    """Its only dimension is the process."""
    (line,) = emf_lines(process_report("front door", "LoopTurn", 120.25), "Pexdock")
    document = checked(line)
    assert (document["Process"], document["LoopTurn"]) == ("front door", [120.25])
    assert document["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["Process"]]
    assert not {"Model", "Endpoint", "Version"} & document.keys()
