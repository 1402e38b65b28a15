"""Job workers are started as they are demanded, and never more than there may be."""

import asyncio
from dataclasses import dataclass, field

from base.ipc.front_door_control import JobDemand
from release_states import release
from runtime.supervisor.fleet.job_demand import JobDemands
from runtime.supervisor.rollout.release import Release

IRIS, OTHER = release("iris 0.1"), release("other 0.1")


@dataclass
class Workers:
    """The job workers of a release, which start at once."""

    count: int = 0
    busy: list[str] = field(default_factory=list)

    @property
    def sockets(self):
        return ["a"] * self.count

    def forget_failure(self):
        pass

    def resize(self, count, busy, idle=0):
        self.count, self.busy = count, busy


@dataclass
class Managed:
    release: Release
    job_workers: Workers = field(default_factory=Workers)


def counts_after(*demands, count_max=3, idle_s=3600.0):
    """Returns the numbers of workers of both releases after each demand."""

    async def run():
        releases = [Managed(IRIS), Managed(OTHER)]
        demanded = JobDemands(releases, count_max, idle_s, lambda: None)
        found = []
        for iris, other in demands:
            demanded.set_demand(JobDemand({IRIS.sha256: iris, OTHER.sha256: other}, ["a"]))
            await asyncio.sleep(0.01 if not idle_s else 0)
            found.append(tuple(each.job_workers.count for each in releases))
            assert [each.release.has_jobs for each in releases] == [iris > 0, other > 0]
        return found

    return asyncio.run(run())


def test_as_many_workers_run_as_are_demanded():
    assert counts_after((1, 0), (2, 1), (2, 1)) == [(1, 0), (2, 1), (2, 1)]


def test_workers_without_work_stay_for_the_next_job_unless_another_release_needs_their_place():
    assert counts_after((2, 0), (0, 0), (0, 1), (0, 2), (0, 3), (1, 0)) == [(2, 0), (2, 0), (2, 1), (1, 2), (0, 3), (1, 2)]


def test_workers_without_work_are_stopped_after_a_while():
    assert counts_after((2, 1), (1, 0), (1, 0), idle_s=0) == [(2, 1), (1, 0), (1, 0)]
