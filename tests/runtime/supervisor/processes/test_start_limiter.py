"""Turns to start: so many at once, first come first served, and nobody holds one for ever."""

import asyncio

from runtime.supervisor.processes import start_limiter
from runtime.supervisor.processes.start_limiter import StartLimiter


def test_so_many_start_at_once_and_the_others_follow_in_their_order():
    """Whether the one before is ready, has failed, or was no longer wanted before its turn came."""

    async def main():
        gate, begun = StartLimiter(2), []
        turns = {name: gate.request_slot(lambda name=name: begun.append(name)) for name in "abcde"}
        assert begun == ["a", "b"]
        turns["b"].release()
        turns["b"].release()
        assert begun == ["a", "b", "c"]
        turns["d"].release()
        turns["a"].release()
        assert begun == ["a", "b", "c", "e"]
        for turn in turns.values():
            turn.release()
        assert begun == ["a", "b", "c", "e"]

    asyncio.run(main())


def test_one_that_takes_long_lets_the_next_one_go(monkeypatch):
    """A model that hangs while it is imported must not keep all others from starting."""
    monkeypatch.setattr(start_limiter, "SLOT_MAX_S", 0.01)

    async def main():
        gate, second = StartLimiter(1), asyncio.Event()
        hanging = gate.request_slot(lambda: None)
        turn = gate.request_slot(second.set)
        await asyncio.wait_for(second.wait(), 10)
        hanging.release()
        turn.release()

    asyncio.run(main())
