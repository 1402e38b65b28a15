"""The batches and checks of one worker: counts, hangs, and the item that crashed it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from base.errors import PeerError
from runtime.front.workers.in_flight import InFlightBatch, InFlightTable


def request(*, answered: bool = False, crash_count: int = 0, unbatched: bool = False) -> Any:
    """A request as the table sees it."""
    endpoint = SimpleNamespace(spec=SimpleNamespace(unbatched=unbatched))
    return SimpleNamespace(answered=answered, crash_count=crash_count, endpoint=endpoint)


def check(*, answered: bool = False, is_suspect: bool = False) -> Any:
    """A parameter check as the table sees it."""
    return SimpleNamespace(answered=answered, is_suspect=is_suspect, started=False, sent_s=0.0)


def sent(table: InFlightTable, *requests: Any, rows: int = 1) -> int:
    """Adds a batch; returns its number."""
    number = table.next_number
    table.add_batch(number, InFlightBatch(list(requests), rows, SimpleNamespace(), SimpleNamespace(), 0.0))  # type: ignore[arg-type]
    return number


def test_a_batch_is_counted_until_the_worker_has_done_with_it() -> None:
    """A parked batch is not computed, and does not count twice."""
    table = InFlightTable()
    first, second = sent(table, request(), rows=3), sent(table, request(), rows=4)
    assert (table.busy, table.computing_rows) == (2, 7)
    table.mark_parked(table.batches[first])
    assert (table.busy, table.computing_rows) == (1, 4)
    assert table.take_batch(first).computed_s == 0
    assert (table.busy, table.computing_rows) == (1, 4)
    assert table.take_batch(second).computed_s > 0
    assert (table.busy, table.computing_rows, table.is_empty) == (0, 0, True)


def test_a_worker_that_takes_one_batch_has_it_also_while_it_is_parked() -> None:
    """Such a worker gets nothing beside it, whatever it waits for."""
    table = InFlightTable(1)
    number = sent(table, request())
    table.mark_parked(table.batches[number])
    assert (table.busy, table.is_idle) == (1, False)
    table.take_batch(number)
    assert (table.busy, table.is_idle) == (0, True)


def test_a_worker_cannot_reply_to_what_it_does_not_have() -> None:
    """Nothing changes then."""
    table = InFlightTable()
    number = sent(table, request())
    for take in (lambda: table.take_batch(number + 1), lambda: table.take_check(number), lambda: table.mark_started(number)):
        with pytest.raises(PeerError):
            take()
    assert table.busy == 1


def test_a_worker_hangs_if_nobody_wants_what_it_computes() -> None:
    """The second batch does not matter: the worker has not begun it."""
    table = InFlightTable()
    sent(table, request(answered=True), request())
    assert not table.is_hung()
    first = next(iter(table.batches.values())).requests
    first[1].answered = True
    sent(table, request())
    assert table.is_hung()


def test_a_worker_with_parked_batches_hangs_only_if_it_should_have_dropped_one() -> None:
    """A batch that shares its worker may wait for its model for as long as it likes; a cancelled single request is dropped at once."""
    for unbatched in (False, True):
        table = InFlightTable()
        number = sent(table, request(answered=True, unbatched=unbatched))
        table.mark_parked(table.batches[number])
        assert table.is_hung() == unbatched


def test_a_batch_is_unwanted_once_all_of_its_clients_are_gone() -> None:
    """It is returned once, whether it shares its worker or not."""
    table = InFlightTable()
    first = sent(table, request(answered=True), request())
    alone = sent(table, request(answered=True, unbatched=True))
    assert table.take_unwanted() == [alone]
    table.batches[first].requests[1].answered = True
    assert table.take_unwanted() == [first]
    assert table.take_unwanted() == []


def test_a_worker_hangs_in_checks_that_nobody_waits_for() -> None:
    """A check takes no time, unless a batch is computed before it."""
    table = InFlightTable()
    table.add_check(table.next_number, check(answered=True))
    assert table.is_hung()
    table.add_check(table.next_number, check())
    assert not table.is_hung()


def test_the_poison_item_is_what_the_worker_had_begun() -> None:
    """Only suspects are reported when they begin."""
    table = InFlightTable()
    suspect = request(crash_count=1)
    sent(table, request())
    number = sent(table, suspect)
    assert table.poison_item() is None
    table.mark_started(number)
    assert table.poison_item() is suspect
    batches, checks = table.take_all()
    assert ([len(batch.requests) for batch in batches], checks, table.is_empty) == ([1, 1], [], True)
