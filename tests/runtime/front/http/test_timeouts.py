"""The minimum data rate, and the limit of what may wait for clients that do not read."""

from __future__ import annotations

import pytest

from runtime.front.http.timeouts import ConnectionTimeouts, MinimumDataRate, TimeLimits
from runtime.front.http.write_buffers import WriteBufferLimit

TOLERATED = 4
IDLE = 6
HEAD = 3
LIMITS = TimeLimits(2.5, IDLE, HEAD, TOLERATED)
BYTES_PER_SWEEP = 10_240  # of 4 kB/s in 2.5 s


def sweeps_until_below(rate: MinimumDataRate, moved: int, at_most: int = 100) -> int | None:
    """How many sweeps are tolerated in which `moved` bytes move; None for all."""
    return next((i for i in range(at_most) if rate.is_below(moved, LIMITS)), None)


@pytest.mark.parametrize(
    ("moved", "tolerated"),
    [(0, TOLERATED), (1, TOLERATED), (BYTES_PER_SWEEP // 2, 2 * TOLERATED), (BYTES_PER_SWEEP, None), (10 * BYTES_PER_SWEEP, None)],
)
def test_a_slow_client_is_tolerated_for_a_while_and_a_fast_one_for_ever(moved: int, tolerated: int | None) -> None:
    """A byte now and then counts as a pause."""
    assert sweeps_until_below(MinimumDataRate(), moved) == tolerated


def test_a_surplus_is_not_saved_and_a_shortfall_can_be_made_up_for() -> None:
    """A pause is tolerated as long after a flood of bytes as at the beginning."""
    rate = MinimumDataRate()
    assert sweeps_until_below(rate, 1000 * BYTES_PER_SWEEP) is None
    assert sweeps_until_below(rate, 0) == TOLERATED
    assert not rate.is_below(3 * BYTES_PER_SWEEP, LIMITS)
    rate.reset()
    assert sweeps_until_below(rate, 0) == TOLERATED


def test_a_head_may_take_its_time_however_fast_it_comes() -> None:
    """The next message has its own time."""
    timeouts = ConnectionTimeouts()
    for message in (1, 2):
        for _ in range(HEAD):
            timeouts.received_bytes += 10 * BYTES_PER_SWEEP
            assert not timeouts.sends_too_slowly(message, LIMITS, in_head=True)
    timeouts.received_bytes += 10 * BYTES_PER_SWEEP
    assert timeouts.sends_too_slowly(2, LIMITS, in_head=True)


def test_a_body_that_comes_fast_enough_may_take_any_time() -> None:
    """One that does not, may pause as long as any."""
    timeouts = ConnectionTimeouts()
    for _ in range(10 * TOLERATED):
        timeouts.received_bytes += BYTES_PER_SWEEP
        assert not timeouts.sends_too_slowly(1, LIMITS, in_head=False)
    assert [timeouts.sends_too_slowly(1, LIMITS, in_head=False) for _ in range(TOLERATED + 1)] == [False] * TOLERATED + [True]


def test_what_is_written_meanwhile_hides_how_much_a_client_reads() -> None:
    """So any bytes that it takes are enough, until nothing is written any more; a client for which nothing waits is never too slow."""
    timeouts = ConnectionTimeouts()
    waiting = 1_000_000
    for _ in range(10 * TOLERATED):
        waiting -= 1
        assert not timeouts.reads_too_slowly(waiting, LIMITS, write_paused=False)
    found = [timeouts.reads_too_slowly(waiting := waiting - 1, LIMITS, write_paused=True) for _ in range(TOLERATED + 1)]
    assert found == [False] * TOLERATED + [True]
    assert not timeouts.reads_too_slowly(0, LIMITS, write_paused=True)


def test_a_connection_is_idle_only_while_nothing_comes_and_nothing_is_asked() -> None:
    """Neither bytes nor open requests count as idle."""
    timeouts = ConnectionTimeouts()
    for _ in range(3):
        assert [timeouts.is_idle_too_long(1, LIMITS) for _ in range(IDLE)] == [False] * IDLE
        timeouts.on_server_busy()
    assert [timeouts.is_idle_too_long(1, LIMITS) for _ in range(IDLE + 1)][-1]


def test_the_first_request_must_begin_within_the_time_for_a_head() -> None:
    """Empty lines do not prolong that."""
    timeouts = ConnectionTimeouts()
    for _ in range(HEAD):
        timeouts.received_bytes += 2
        assert not timeouts.is_idle_too_long(0, LIMITS)
    assert timeouts.is_idle_too_long(0, LIMITS)


@pytest.mark.parametrize(
    ("idle_s", "head_s", "slow_s", "limits"),
    [
        (75, 5, 60, TimeLimits(2.5, 30, 2, 24)),
        (75, 10, 61, TimeLimits(2.5, 30, 4, 25)),
        (1, 5, 60, TimeLimits(0.5, 2, 10, 120)),
        (0.01, 5, 60, TimeLimits(0.25, 1, 20, 240)),
    ],
)
def test_seconds_become_sweeps_that_are_never_too_early(idle_s: float, head_s: float, slow_s: float, limits: TimeLimits) -> None:
    """A limit of n sweeps is over at the next one, so a connection ends at most one period late."""
    assert TimeLimits.from_seconds(idle_s=idle_s, head_s=head_s, slow_s=slow_s) == limits


class Client:
    """Notes whether it was disconnected."""

    def __init__(self) -> None:
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


def test_the_client_that_reads_least_is_disconnected_when_too_much_waits(caplog: pytest.LogCaptureFixture) -> None:
    """The others keep what waits for them, until they have read it."""
    limit, (first, most, last) = WriteBufferLimit(100), (Client() for _ in range(3))
    limit.set_waiting(first, 30)
    limit.set_waiting(most, 20)
    limit.set_waiting(most, 60)
    assert (limit.total_bytes, most.aborted) == (90, False)
    limit.set_waiting(last, 11)
    assert [each.aborted for each in (first, most, last)] == [False, True, False]
    assert limit.total_bytes == 41
    assert "disconnecting the client with the most" in caplog.text
    for each in (first, most, last, last):
        limit.forget(each)
    assert limit.total_bytes == 0
