"""Batches that are sent again after they failed."""

from __future__ import annotations

from base.errors import DeadlineExceeded, HandlerFailed, PexdockError, Reject, Unavailable
from runtime.front.requests.deadlines import Timed
from runtime.front.scheduling.retry_queue import RetryQueue


class Queued(Timed):
    """A request of one row."""

    row_count = 1

    def __init__(self, ends_s: float = float("inf")) -> None:
        super().__init__(60.0)
        self.ends_s = ends_s
        self.error: PexdockError | None = None

    def fail(self, error: PexdockError, *, blamed: bool = False) -> None:
        self.error, self.answered = error, True

    def expire(self) -> None:
        self.fail(DeadlineExceeded("late"))


def failed(error: PexdockError, requests: list[Queued]) -> list[list[Queued]]:
    """The batches that follow an error."""
    queue = RetryQueue()
    queue.on_batch_failed(requests, error)  # type: ignore[arg-type]
    found = []
    while batch := queue.take_batch():
        found.append(batch)
    return found  # type: ignore[return-value]


def test_requests_that_an_error_does_not_name_are_tried_again() -> None:
    """The one that it names has its answer."""
    requests = [Queued() for _ in range(3)]
    assert failed(Reject(422, "no", rows=[1]), requests) == [[requests[0], requests[2]]]
    assert isinstance(requests[1].error, Reject)


def test_an_error_that_names_nobody_is_found_by_halves() -> None:
    """A single request is failed."""
    requests = [Queued() for _ in range(3)]
    assert failed(HandlerFailed("x"), requests) == [requests[:1], requests[1:]]
    assert failed(HandlerFailed("x"), requests[:1]) == []
    assert requests[0].error is not None


def test_an_error_of_nobody_fails_all() -> None:
    """To try again would not help."""
    requests = [Queued(), Queued()]
    assert failed(Unavailable("x"), requests) == []
    assert all(request.error is not None for request in requests)


def test_requests_in_time_are_tried_again_without_a_late_one() -> None:
    """If none is late the deadline was another: the error is theirs."""
    late, good = Queued(ends_s=0.0), Queued()
    assert failed(DeadlineExceeded("x"), [late, good]) == [[good]]
    assert late.answered
    assert failed(DeadlineExceeded("x"), [good]) == []
    assert good.answered
