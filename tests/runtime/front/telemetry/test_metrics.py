"""The metrics that a front door records of requests and batches, and when it reports them."""

import asyncio

import pytest

from base.ipc.metrics_report import MetricsConfig
from runtime.front.telemetry.metrics import CLIENT_CLOSED_REQUEST, FrontMetrics, now_s


@pytest.fixture
def run():
    """Runs a scenario that gets the metrics of a front door, the event that reports are due, and the metrics of one endpoint."""

    def run(scenario, interval_s=3600.0, values_max=10):
        async def main():
            due = asyncio.Event()
            metrics = FrontMetrics(MetricsConfig(interval_s, values_max), due.set)
            await scenario(metrics, due, metrics.endpoint_metrics("iris", "1.0", "predict"))

        asyncio.run(main())

    return run


def test_responses_are_counted_by_who_must_act(run):
    """A 4xx is no error of the server, and a client that disconnected is counted apart from both."""

    async def scenario(metrics, due, endpoint):
        for status in (200, 200, 422, 404, 500, 503, 504, CLIENT_CLOSED_REQUEST):
            endpoint.record_response(status, now_s())
        (report,) = metrics.take_reports()
        assert (report.model, report.version, report.endpoint) == ("iris", "1.0", "predict")
        assert report.counts == {"Requests": 8, "Errors": 3, "ClientErrors": 2, "Abandoned": 1}
        assert report.summaries["Latency"].count == 8

    run(scenario)


def test_counts_that_stay_zero_are_reported(run):
    """A dashboard can tell no errors from no data."""

    async def scenario(metrics, due, endpoint):
        endpoint.record_response(200, now_s())
        (report,) = metrics.take_reports()
        assert report.counts == {"Requests": 1, "Errors": 0, "ClientErrors": 0, "Abandoned": 0}

    run(scenario)


def test_a_request_that_is_refused_before_it_is_decoded_has_no_latency(run):
    """A flood of refusals must not make the model look fast."""

    async def scenario(metrics, due, endpoint):
        endpoint.record_response(413)
        (report,) = metrics.take_reports()
        assert report.counts["ClientErrors"] == 1
        assert report.summaries == {}

    run(scenario)


def test_a_request_that_is_sent_again_has_no_second_queue_time(run):
    """A batch that is retried in halves was queued once; each try is a batch."""

    async def scenario(metrics, due, endpoint):
        endpoint.record_batch([now_s() - 0.5, now_s() - 0.5], 7)
        endpoint.record_batch([0.0], 3)
        summaries = next(metrics.take_reports()).summaries
        assert summaries["BatchSize"].sample == [7, 3]
        assert summaries["QueueTime"].count == 2
        assert summaries["QueueTime"].min >= 500

    run(scenario)


def test_each_report_holds_only_its_own_interval(run):
    async def scenario(metrics, due, endpoint):
        endpoint.record_response(200, now_s())
        assert next(metrics.take_reports()).counts["Requests"] == 1
        assert not list(metrics.take_reports())
        endpoint.record_response(200, now_s())
        assert next(metrics.take_reports()).counts["Requests"] == 1

    run(scenario)


def test_an_interval_begins_with_its_first_entry(run):
    """A front door without requests is never woken by its metrics; one with requests is woken once an interval."""

    async def scenario(metrics, due, endpoint):
        loop = asyncio.get_running_loop()
        assert not loop._scheduled
        endpoint.record_response(200, now_s())
        metrics.endpoint_metrics("iris", "1.0", "other").record_response(200, now_s())
        assert len(loop._scheduled) == 1
        await asyncio.wait_for(due.wait(), 10)
        assert len(list(metrics.take_reports())) == 2
        endpoint.record_response(200, now_s())
        due.clear()
        await asyncio.wait_for(due.wait(), 10)

    run(scenario, interval_s=0.01)


def test_metrics_that_nobody_takes_stay_bounded(run):
    """While the parent does not read, an endpoint has one report, which holds a sample of its values."""

    async def scenario(metrics, due, endpoint):
        for _ in range(5000):
            endpoint.record_response(200, now_s())
        (report,) = metrics.take_reports()
        assert report.counts["Requests"] == report.summaries["Latency"].count == 5000
        assert len(report.summaries["Latency"].sample) == 10

    run(scenario)
