"""Bodies that are decoded on threads leave the event loop free."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import cast

from base.errors import PexdockError
from runtime.front.app.slow_bodies import SlowBodies
from runtime.front.requests.response import HttpResponse
from runtime.front.requests.target import Target
from runtime.front.routing.route_table import RouteTable


def test_the_objects_of_a_body_are_not_visited_while_it_is_decoded() -> None:
    """A million lists would be visited in one go, several times. Afterwards everything is as before."""
    generations: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        generations.append(info["generation"])

    def decode() -> list[list[int]]:
        return [[number] for number in range(1_000_000)]

    async def scenario() -> None:
        bodies = SlowBodies(cast(RouteTable, None), 0, cast(Callable[[PexdockError, str, Target], HttpResponse], None))
        decoding = [asyncio.ensure_future(bodies._run(b"", call)) for call in (decode, lambda: None)]
        await decoding[1]
        await decoding[0]

    before = gc.get_threshold()
    gc.callbacks.append(note)
    try:
        asyncio.run(scenario())
    finally:
        gc.callbacks.remove(note)
    assert set(generations) == {0, 1}
    assert gc.get_threshold() == before
