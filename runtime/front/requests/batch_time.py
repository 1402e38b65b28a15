"""Measures the time that batches of an endpoint take, and estimates the wait of a request behind them. Pure: reads no clock.

If the load exceeds the capacity of a model, a queue that is limited only by rows grows until each request waits for its whole time limit.
Most requests would then be computed in vain. So a request that would wait for too long is refused at once, and accepted requests are
answered in time.
"""

from __future__ import annotations

from collections.abc import Sequence

_LATEST_WEIGHT = 1 / 8
"""Weight of the latest batch in the average. One slow batch barely changes the average, but a few slow batches do."""


class BatchTime:
    """A moving average over the batches of one endpoint.

    Attributes:
        mean_s: The average in seconds; 0 until a batch was computed.
    """

    def __init__(self) -> None:
        self.mean_s = 0.0

    def record(self, took_s: float) -> None:
        """Records a batch that a worker computed without interruption."""
        self.mean_s += (took_s - self.mean_s) * (_LATEST_WEIGHT if self.mean_s else 1.0)


def estimate_wait_s(batches_before: int, workers: int, own: BatchTime, others: Sequence[tuple[int, BatchTime]]) -> float:
    """Returns how long a request would wait at the end of a queue.

    Args:
        batches_before: Number of batches of its endpoint that go before it.
        workers: Number of workers that compute them; at least 1.
        own: Batch time of its endpoint.
        others: Number of waiting batches and batch time of each other endpoint of the same workers. Endpoints take turns, batch by batch.
    """
    other_s = sum(min(batches_before, batches) * batch_time.mean_s for batches, batch_time in others)
    return (batches_before * own.mean_s + other_s) / workers
