"""Changes of jobs, and those who follow them."""

import asyncio
import time
from contextlib import aclosing

import pytest
from msgspec.structs import replace

from runtime.job_runner.events import REPLAY_MAX, JobEvents
from runtime.jobs.job import Job, JobState, Submission

SUBMISSION = Submission(model="iris", target="/iris", body_file="", body_bytes=0, digest="")


def make_job(number=1):
    return Job(number=number, id=str(number), submission=SUBMISSION, created_s=0)


def told(job, percent):
    return replace(job, state=JobState.RUNNING, fraction=percent / 100)


def ended(job):
    return replace(job, state=JobState.DONE)


async def read_all(events, job, after=0):
    async with asyncio.timeout(10):
        return [each async for each in events.follow(job, after)]


def test_a_follower_gets_each_change_in_order_up_to_the_end():
    async def check():
        events, job = JobEvents(), make_job()
        following = asyncio.ensure_future(read_all(events, job))
        await asyncio.sleep(0)
        expected = [job]
        for percent in (10, 20, 30):
            expected.append(told(job, percent))
            events.publish(expected[-1])
            await asyncio.sleep(0)
        events.publish(told(job, 40))
        events.publish(ended(job))  # both before the follower runs again
        changes = await following
        assert [change for _, change in changes] == [*expected, told(job, 40), ended(job)]
        numbers = [number for number, _ in changes]
        assert numbers == sorted(set(numbers))

    asyncio.run(check())


def test_a_follower_goes_on_after_the_last_change_that_it_knows():
    async def check():
        events, job = JobEvents(), make_job()
        for percent in (10, 20, 30):
            events.publish(told(job, percent))
        events.publish(ended(job))
        changes = await read_all(events, job)
        assert len(changes) == 4
        assert await read_all(events, job, changes[1][0]) == changes[2:]

    asyncio.run(check())


def test_a_follower_that_is_far_behind_gets_the_last_changes():
    async def check():
        events, job = JobEvents(), make_job()
        for change in range(REPLAY_MAX + 100):
            events.publish(replace(told(job, 50), message=str(change)))
        events.publish(ended(job))
        changes = await read_all(events, job)
        assert len(changes) == REPLAY_MAX
        assert changes[0][1].message == "101"
        assert changes[-1][1] == ended(job)

    asyncio.run(check())


def test_a_number_from_a_clock_that_was_set_back_replays_everything():
    async def check():
        events, job = JobEvents(), make_job()
        events.publish(ended(job))
        assert [change for _, change in await read_all(events, job, 2**60)] == [ended(job)]

    asyncio.run(check())


def test_a_job_that_ended_before_is_told_at_once():
    async def check():
        events, job = JobEvents(), ended(make_job())
        ((number, change),) = await read_all(events, job)
        assert change == job
        assert number > 0

    asyncio.run(check())


def test_who_knows_the_end_of_a_forgotten_job_is_not_told_again():
    """Else a client that connects again whenever its stream ends would do so for ever."""

    async def check():
        events, job = JobEvents(), replace(ended(make_job()), ended_s=time.time())
        ((number, _),) = await read_all(events, job, int((time.time() - 60) * 1e6))
        assert await read_all(events, job, number) == []

    asyncio.run(check())


def test_a_follower_that_leaves_disturbs_no_other():
    async def check():
        events, job = JobEvents(), make_job()
        stays, leaves = (asyncio.ensure_future(read_all(events, job)) for _ in range(2))
        await asyncio.sleep(0)
        leaves.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaves
        async with aclosing(events.follow(job, 0)) as one:
            await anext(one)
        events.publish(ended(job))
        assert (await stays)[-1][1] == ended(job)

    asyncio.run(check())


def test_a_follower_that_reads_slowly_delays_nobody_and_holds_no_more_than_the_replay():
    async def check():
        events, job = JobEvents(), make_job()
        async with aclosing(events.follow(job, 0)) as slow:
            await anext(slow)
            for percent in range(100):
                for change in range(50):
                    events.publish(replace(told(job, percent), message=str(change)))
            events.publish(ended(job))
            rest = [change async for _, change in slow]
        assert len(rest) == REPLAY_MAX
        assert rest[-1] == ended(job)

    asyncio.run(check())


def test_the_changes_of_jobs_that_ended_long_ago_are_forgotten():
    async def check():
        events = JobEvents()
        for number in range(20):
            for percent in range(1000):
                events.publish(told(make_job(number), percent))
            events.publish(ended(make_job(number)))
        events.publish(replace(make_job(19), state=JobState.EXPIRED))
        kept = [len(await read_all(events, ended(make_job(number)))) for number in range(20)]
        assert kept == [1] * 4 + [1001] * 15 + [1002]

    asyncio.run(check())
