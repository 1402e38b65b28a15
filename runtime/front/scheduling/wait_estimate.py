"""How long what comes now would wait, by what batches have taken. Pure: it is told when things happen.

Under more load than a model can take, a queue that only rows bound grows until each request waits for as long as its time lasts, and most
are computed for nobody. So what would wait for too long is refused at once, and those that are accepted have their answers in time.
"""

from __future__ import annotations

_WEIGHT = 1 / 8
"""Of the latest batch, beside all before it: one that is slow by chance is not the rule, and a few that are, are."""


class WaitEstimator:
    """Of one endpoint."""

    def __init__(self) -> None:
        self.batch_s = 0.0
        """What a batch takes of a worker; 0 until one was answered."""

    def answered(self, took_s: float) -> None:
        """A worker has computed a batch, and had nothing else to do meanwhile."""
        self.batch_s += (took_s - self.batch_s) * (_WEIGHT if self.batch_s else 1.0)


def wait_s(before: int, workers: int, own: WaitEstimator, others: list[tuple[int, WaitEstimator]]) -> float:
    """How long a request would wait at the end of a queue.

    Args:
        before: batches that go before it.
        workers: that compute them; at least 1.
        own: of its endpoint.
        others: endpoints of the same workers, with the batches that wait for each: endpoints take turns, batch by batch.
    """
    return (before * own.batch_s + sum(min(before, batches) * each.batch_s for batches, each in others)) / workers
