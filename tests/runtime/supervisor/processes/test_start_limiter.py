"""Tests of start slots: a limited number at once, what clients need first, and none held for ever."""

import asyncio

from runtime.supervisor.processes import start_limiter
from runtime.supervisor.processes.start_limiter import StartLimiter


def test_a_limited_number_starts_at_once_and_the_others_follow_in_order():
    """A worker may be ready, have failed, or be retired before its slot was granted."""

    async def main():
        gate, begun = StartLimiter(2), []
        turns = {name: gate.request_slot(name, lambda name=name: begun.append(name)) for name in "abcde"}
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


def test_a_slow_start_releases_its_slot(monkeypatch):
    """A model that hangs while it is imported must not keep all others from starting."""
    monkeypatch.setattr(start_limiter, "SLOT_MAX_S", 0.01)

    async def main():
        gate, second = StartLimiter(1), asyncio.Event()
        hanging = gate.request_slot("a", lambda: None)
        turn = gate.request_slot("b", second.set)
        await asyncio.wait_for(second.wait(), 10)
        hanging.release()
        turn.release()

    asyncio.run(main())


def test_models_that_clients_ask_for_start_first():
    """In the order in which they were asked for, also if that was before they could start, and one worker of each."""

    async def main():
        gate, begun = StartLimiter(1), []
        gate.prefer("later")
        running = gate.request_slot("first", lambda: begun.append("first"))
        slots = []

        def start(model):
            slots.append(gate.request_slot(model, lambda: begun.append(model)))

        for model in ("a", "b", "b", "c", "later"):
            start(model)
        for model in ("c", "b", "c", "gone"):
            gate.prefer(model)
        running.release()
        while len(begun) < 6:
            next(slot for slot in slots if slot.timer is not None and not slot.timer.cancelled()).release()
        assert begun == ["first", "later", "c", "b", "a", "b"]
        for slot in slots:
            slot.release()

    asyncio.run(main())
