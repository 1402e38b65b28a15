"""What a front door notes of requests and batches, and when it reports."""

import asyncio
from types import SimpleNamespace

import pytest

from base.ipc.control import MetricsConfig
from runtime.front.telemetry.metrics import CLIENT_CLOSED_REQUEST, FrontMetrics, now_s


@pytest.fixture
def run():
    """Runs a scenario that gets a recorder, what it was told is due, and one endpoint."""

    def run(scenario, interval_s=3600.0, values_max=10):
        async def main():
            due = asyncio.Event()
            recorder = FrontMetrics(MetricsConfig(interval_s, values_max), due.set)
            await scenario(recorder, due, recorder.endpoint_metrics("iris", "1.0", "predict"))

        asyncio.run(main())

    return run


def queued(since_s):
    return SimpleNamespace(queued_s=since_s)


def test_answers_are_counted_by_who_must_act(run):
    """A 4xx is not our error, and a client that hung up is neither its own nor ours."""

    async def scenario(recorder, due, endpoint):
        for status in (200, 200, 422, 404, 500, 503, 504, CLIENT_CLOSED_REQUEST):
            endpoint.record_response(status, now_s())
        (measured,) = recorder.take_reports()
        assert (measured.model, measured.version, measured.endpoint) == ("iris", "1.0", "predict")
        assert measured.counts == {"Requests": 8, "Errors": 3, "ClientErrors": 2, "Abandoned": 1}
        assert measured.summaries["Latency"].count == 8

    run(scenario)


def test_a_request_that_was_refused_before_it_was_decoded_has_no_latency(run):
    """A flood of refusals must not make the model look fast."""

    async def scenario(recorder, due, endpoint):
        endpoint.record_response(413)
        (measured,) = recorder.take_reports()
        assert measured.counts["ClientErrors"] == 1
        assert measured.summaries == {}

    run(scenario)


def test_a_request_waits_in_the_queue_once_however_often_it_is_sent(run):
    """A batch that is tried again in halves was queued once; each of its tries is a batch."""

    async def scenario(recorder, due, endpoint):
        requests = [queued(now_s() - 0.5), queued(now_s() - 0.5)]
        endpoint.record_batch(requests, 7)
        endpoint.record_batch(requests[:1], 3)
        values = next(recorder.take_reports()).summaries
        assert values["BatchSize"].sample == [7, 3]
        assert values["QueueTime"].count == 2
        assert values["QueueTime"].min >= 500

    run(scenario)


def test_what_was_reported_is_not_reported_again(run):
    """Reports are sums of their own intervals."""

    async def scenario(recorder, due, endpoint):
        endpoint.record_response(200, now_s())
        assert next(recorder.take_reports()).counts["Requests"] == 1
        assert not list(recorder.take_reports())
        endpoint.record_response(200, now_s())
        assert next(recorder.take_reports()).counts["Requests"] == 1

    run(scenario)


def test_an_interval_begins_with_its_first_measure(run):
    """A front door that measures nothing is never woken by this; one that measures is, once an interval."""

    async def scenario(recorder, due, endpoint):
        loop = asyncio.get_running_loop()
        assert not loop._scheduled
        endpoint.record_response(200, now_s())
        recorder.endpoint_metrics("iris", "1.0", "other").record_response(200, now_s())
        assert len(loop._scheduled) == 1
        await asyncio.wait_for(due.wait(), 10)
        assert len(list(recorder.take_reports())) == 2
        endpoint.record_response(200, now_s())
        due.clear()
        await asyncio.wait_for(due.wait(), 10)

    run(scenario, interval_s=0.01)


def test_measures_that_nobody_takes_stay_bounded(run):
    """While the parent does not listen, one endpoint is one entry, and its values are a sample."""

    async def scenario(recorder, due, endpoint):
        for _ in range(5000):
            endpoint.record_response(200, now_s())
        (measured,) = recorder.take_reports()
        assert measured.counts["Requests"] == measured.summaries["Latency"].count == 5000
        assert len(measured.summaries["Latency"].sample) == 10

    run(scenario)
