"""Questions to workers: does a spec admit the parameters of a path? Each has its one answer.

A question is in the danger that a request is in: a worker may die of it, or while it has it. So it waits for a worker as requests do, goes
once more where its worker died, then alone, and whoever asked is told when it has killed two.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from base.errors import DeadlineExceeded
from runtime.front.requests.parameter_question import ParameterCheck

if TYPE_CHECKING:
    from runtime.front.requests.target import RequestHead


STEP_S = 0.01
"""What a question took of a request's time is counted in steps of so much, since requests of equal time share a lane of `Deadlines`."""


async def check(asked: RequestHead, *, copied: bool = False) -> float:
    """Has the spec look at the parameters of a request's path, unless it has admitted them before.

    Args:
        asked: what its head says.
        copied: it is a copy, which does not go again.

    Returns:
        How much of the request's time that took, in whole steps.

    Raises:
        PexdockError: they are not admitted, or nobody could be asked in time.
    """
    if asked.target.admitted:
        return 0.0
    release, loop = asked.target.endpoint.dispatcher, asyncio.get_running_loop()
    began_s = loop.time()
    release.check_up()
    question = ParameterCheck(asked, copied=copied)
    release.ask(question)
    try:
        async with asyncio.timeout(asked.timeout_s):
            await question.wait()
    except TimeoutError as exc:
        raise DeadlineExceeded(f"the parameters were not looked at within {asked.timeout_s:g} s") from exc
    finally:
        question.endpoint.dispatcher.forget(question)
    return (loop.time() - began_s) // STEP_S * STEP_S
