"""How slowly a client may send or take, and how much may wait for those who do not read."""

from __future__ import annotations

import pytest

from runtime.front.http.data_rate import A_SWEEP, MinimumDataRate
from runtime.front.http.write_buffers import WriteBufferLimit

FREE = 4


def sweeps_until_over(patience: MinimumDataRate, moved: int, at_most: int = 100) -> int | None:
    """How many more are borne of so many bytes each; None for all."""
    return next((i for i in range(at_most) if patience.is_over(moved, FREE)), None)


@pytest.mark.parametrize(("moved", "borne"), [(0, FREE), (1, FREE), (A_SWEEP // 2, 2 * FREE), (A_SWEEP, None), (10 * A_SWEEP, None)])
def test_whoever_is_slow_is_borne_for_a_while_and_whoever_is_not_for_ever(moved: int, borne: int | None) -> None:
    """A byte now and then is no more than silence."""
    assert sweeps_until_over(MinimumDataRate(), moved) == borne


def test_haste_is_not_saved_up_and_what_was_owed_can_be_made_up_for() -> None:
    """Silence is borne as long after a flood of bytes as at the beginning."""
    patience = MinimumDataRate()
    assert sweeps_until_over(patience, 1000 * A_SWEEP) is None
    assert sweeps_until_over(patience, 0) == FREE
    assert not patience.is_over(3 * A_SWEEP, FREE)
    patience.reset()
    assert sweeps_until_over(patience, 0) == FREE


class Client:
    """Notes whether it was hung up on."""

    def __init__(self) -> None:
        self.ended = False

    def give_up(self) -> None:
        self.ended = True


def test_whoever_reads_least_is_hung_up_on_when_too_much_waits(caplog: pytest.LogCaptureFixture) -> None:
    """The others keep what waits for them, until they have read it."""
    unread, (first, most, last) = WriteBufferLimit(100), (Client() for _ in range(3))
    unread.holds(first, 30)
    unread.holds(most, 20)
    unread.holds(most, 60)
    assert (unread.total_bytes, most.ended) == (90, False)
    unread.holds(last, 11)
    assert [each.ended for each in (first, most, last)] == [False, True, False]
    assert unread.total_bytes == 41
    assert "hung up on the client with most" in caplog.text
    for each in (first, most, last, last):
        unread.forget(each)
    assert unread.total_bytes == 0
