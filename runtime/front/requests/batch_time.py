"""The time that batches of an endpoint take, and the wait of a request behind them. Pure: reads no clock.

Under more load than a model can take, a queue that is limited only by rows grows until each request waits for its whole time limit, and
most are computed for nobody. So a request that would wait for too long is refused at once, and those that are accepted get answers in time.
"""

from __future__ import annotations

from collections.abc import Sequence

_LATEST_WEIGHT = 1 / 8
"""Weight of the latest batch in the average: one slow batch barely changes it, and a few do."""


class BatchTime:
    """A moving average over the batches of one endpoint.

    Attributes:
        mean_s: The average; 0 until a batch was computed.
    """

    def __init__(self) -> None:
        self.mean_s = 0.0

    def record(self, took_s: float) -> None:
        """Records a batch that a worker computed without interruption."""
        self.mean_s += (took_s - self.mean_s) * (_LATEST_WEIGHT if self.mean_s else 1.0)


def estimate_wait_s(batches_before: int, workers: int, own: BatchTime, others: Sequence[tuple[int, BatchTime]]) -> float:
    """Returns how long a request would wait at the end of a queue.

    Args:
        batches_before: Batches of its endpoint that go before it.
        workers: Workers that compute them; at least 1.
        own: Batch time of its endpoint.
        others: Waiting batches and batch times of the other endpoints of the same workers; endpoints take turns, batch by batch.
    """
    other_s = sum(min(batches_before, batches) * batch_time.mean_s for batches, batch_time in others)
    return (batches_before * own.mean_s + other_s) / workers
