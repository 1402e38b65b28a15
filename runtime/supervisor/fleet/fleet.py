"""All releases of one dist/, and what is done about them: verified, unpacked, started, replaced. Runs in the supervisor.

Events only move the machines of `release`. What follows from where they all stand is decided afresh after each of them, in `_decide`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path

import msgspec
from packaging.utils import canonicalize_name

from base.errors import PexRefused
from base.ipc.control import Route, RoutingTable, SplitSpec
from runtime.blocking import BlockingThreads
from runtime.pex.cache.store import AdmittedPex
from runtime.pex.check import check_pex, choose_base
from runtime.pex.file import PexFile, read_pex
from runtime.pex.trust.policy import Untrusted
from runtime.supervisor.dist.retries import Retries, failure_reason
from runtime.supervisor.dist.stability import FileRemoved, FileStable
from runtime.supervisor.processes.worker import WorkerProcess
from runtime.supervisor.releases.managed_release import ManagedRelease, ReleaseContext
from runtime.supervisor.rollout import planner
from runtime.supervisor.rollout.policy_store import PolicyStore
from runtime.supervisor.rollout.probation import probation_rules
from runtime.supervisor.rollout.release import Identity, Release
from runtime.supervisor.rollout.release_state import ReleaseEvent, ReleaseState
from runtime.supervisor.rollout.traffic_plan import TrafficPlan
from runtime.supervisor.rollout.traffic_policy import TrafficPolicy
from runtime.supervisor.status.state import ReleaseReport
from runtime.supervisor.traffic.rollouts import Rollouts

log = logging.getLogger(__name__)

_IDLE = frozenset({ReleaseState.VERIFYING, ReleaseState.WAITING, ReleaseState.STANDBY, ReleaseState.REFUSED, ReleaseState.FAILED})
_KNOWN = frozenset({ReleaseState.WAITING, ReleaseState.STANDBY, ReleaseState.UNPACKING, ReleaseState.RUNNING})


class Fleet:
    """The releases and their workers.

    Args:
        plant: what a release needs to be unpacked and started.
        dist_path: where the files are.
        threads: for blocking work.
        kept: what operators said before.
        changed: called after every change, once `table` says what follows from it.

    Attributes:
        table: for all front doors.
        rollouts: where the requests of each model go, and what operators order of them.
    """

    def __init__(
        self, plant: ReleaseContext, dist_path: Path, threads: BlockingThreads, kept: PolicyStore, changed: Callable[[], None]
    ) -> None:
        self.table = RoutingTable(0, [], startup_complete=False)
        settings = plant.settings
        self.rollouts = Rollouts(kept, probation_rules(settings), settings.rollback_window_s, lambda: self._lives, self.look_again)
        self._plant = plant
        self._dist_path = dist_path
        self._threads = threads
        self._changed = changed
        self._lives: list[ManagedRelease] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._orders = 0
        self._doubles: dict[str, ManagedRelease] = {}  # file → the release that it holds, too, which goes by another file
        self._retries = Retries(self._take_again)
        self._expected: set[str] | None = None  # files of the start that are still being written
        self._scheduled = False
        self._stopping = False

    def take(self, events: Sequence[FileStable | FileRemoved], unsettled: set[str]) -> None:
        """What has happened in dist/. The first call tells what was there at the start."""
        self._expected = unsettled if self._expected is None else self._expected & unsettled
        for event in events:
            self._doubles.pop(event.name, None)
            match event:
                case FileStable(name):
                    self._arrived(name)
                case FileRemoved(name):
                    log.info("%s: gone from dist/", name)
                    self._leave(name)
        self.look_again()

    def unroute(self, has_left: Callable[[int], bool]) -> None:
        """The front door has applied a table, or is gone: drain the retired workers that no request can reach any more."""
        for worker in self.workers():
            if has_left(worker.retired_generation):
                worker.on_unrouted()

    def stop(self) -> None:
        """Begin nothing new. Workers that are ready go on until `end_workers`."""
        self._stopping = True
        self._retries.close()
        for task in self._tasks:
            task.cancel()

    def end_workers(self) -> None:
        """Drain every worker, since no front door is left."""
        for live in self._lives:
            live.retire_all()
        self.unroute(lambda _: True)

    def reports(self) -> list[ReleaseReport]:
        """All releases, for the state file."""
        return [live.report() for live in sorted(self._lives, key=lambda live: (live.release.file, live.release.order))]

    def serving(self, model: str) -> ManagedRelease | None:
        """The release of this model that most requests go to."""
        for release in planner.serving(self._releases(), self.rollouts.traffics):
            if release.name == canonicalize_name(model):
                return self._live(release)
        return None

    def lives(self, model: str) -> list[ManagedRelease]:
        """All releases of this model, by its normal name."""
        return [live for live in self._lives if live.release.is_model and live.release.name == model]

    def workers(self) -> list[WorkerProcess]:
        """Every worker, wanted or not."""
        return [worker for live in self._lives for worker in live.workers]

    def digests(self) -> set[str]:
        """Of the files whose copies in the cache are needed."""
        return {live.release.identity.sha256 for live in self._lives if live.release.identity}

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is on its way into the cache, so that `digests` has all that is needed of it."""
        return not any(live.release.state in {ReleaseState.VERIFYING, ReleaseState.UNPACKING} for live in self._lives)

    # ---- a file's way to a release

    def _arrived(self, name: str) -> None:
        log.info("%s: found", name)
        release = Release(name, self._orders)
        self._orders += 1
        live = ManagedRelease(
            release, self._plant, self.look_again, lambda: self._without(release), initial=not self.table.startup_complete
        )
        self._lives.append(live)
        self._do(live, self._verify(live))

    def _without(self, release: Release) -> int:
        """The generation of the first table that does not name this release, were it left out from now on."""
        return self.table.generation + any(route.release_id == release.sha256 for route in self.table.routes)

    def _leave(self, name: str, replaced_by: ManagedRelease | None = None, before: int | None = None) -> None:
        """The releases that came from this file have it no more; of those that another one replaces only what came `before` it."""
        for live in self._lives:
            if live.release.file == name and live is not replaced_by and (before is None or live.release.order < before):
                if replaced_by is not None and live.release.replaced_by is None:
                    log.info("%s: %s now, another release than %s before", name, _marked(replaced_by.release), _marked(live.release))
                live.release.in_place = False
                live.release.replaced_by = replaced_by.release if replaced_by is not None else None
                self._rename(live)

    def _rename(self, live: ManagedRelease) -> None:
        """It goes by another file that holds the same, where there is one."""
        for name, holder in self._doubles.items():
            if holder is live:
                live.release.file, live.release.in_place, live.release.replaced_by = name, True, None
                del self._doubles[name]
                return

    def _do(self, live: ManagedRelease, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._guard(live, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guard(self, live: ManagedRelease, work: Coroutine[None, None, None]) -> None:
        try:
            await work
            self._ended(live, None)
        except PexRefused as exc:
            live.doubted = exc.evidence if isinstance(exc, Untrusted) else None
            live.end(ReleaseEvent.REFUSED, failure_reason(exc) + self._ended(live, exc))
        except Exception as exc:  # one release's trouble, foreseen or not, must not stop the others
            log.exception("%s cannot be prepared", live.release.file)
            live.end(ReleaseEvent.FAILED, failure_reason(exc) + self._ended(live, exc))
        if live.release.in_place:  # one that came later may be on its way still
            self._leave(live.release.file, replaced_by=live, before=live.release.order)
        self.look_again()  # a double took no step, and others may wait for what it turned out to be

    def _ended(self, live: ManagedRelease, error: Exception | None) -> str:
        """What is to be said of a try, beside its error; nothing of a file that holds something else by now."""
        return self._retries.on_attempt_ended(live.release.file, error) if live.release.in_place else ""

    def _take_again(self, name: str) -> None:
        """A file that was refused for no fault of its own, unless something became of it meanwhile."""
        ended = {ReleaseState.REFUSED, ReleaseState.FAILED}
        if not self._stopping and any(
            live.release.file == name and live.release.in_place and live.release.state in ended for live in self._lives
        ):
            self._arrived(name)

    async def _verify(self, live: ManagedRelease) -> None:
        path = await self._threads.run(lambda: self._plant.vouched(self._dist_path / live.release.file))
        pex = await self._threads.run(lambda: read_pex(path, checksums=False))
        if pex.kind == "base":
            await self._unpack_base(live, path, pex)
            return
        live.pex = pex
        admitted, copy = await self._threads.run(lambda: self._admit(path))
        if live.release.state is ReleaseState.VERIFYING and live.release.in_place and not self._is_double(live, admitted.sha256):
            live.is_admitted(admitted, copy)

    def _admit(self, path: Path) -> tuple[AdmittedPex, PexFile]:
        admitted = self._plant.store.admit(path)
        return admitted, read_pex(admitted.path)

    def _is_double(self, live: ManagedRelease, sha256: str) -> bool:
        """Whether this content is there already: then its release keeps its place, and has this file if it had none, or had it before."""
        for other in self._lives:
            identity = other.release.identity
            if other is not live and identity and identity.sha256 == sha256 and other.release.state in _KNOWN:
                name = live.release.file
                self._leave(name, replaced_by=other, before=live.release.order)
                if other.release.file == name or not other.release.in_place:
                    other.release.file, other.release.in_place, other.release.replaced_by = name, True, None
                else:
                    self._doubles[name] = other
                log.info("%s: holds what %s holds", live.release.file, other.release.title)
                live.release.in_place = False
                return True
        return False

    async def _unpack_base(self, live: ManagedRelease, path: Path, pex: PexFile) -> None:
        live.pex, live.release.identity = pex, Identity(pex.kind, pex.name, pex.version, "")
        live.step(ReleaseEvent.IS_BASE)
        base = await self._threads.run(lambda: self._plant.store.unpack_base(path))
        if live.release.state is ReleaseState.UNPACKING and live.release.in_place and not self._is_double(live, base.sha256):
            live.base, live.pex = base, base.pexfile
            live.release.identity = Identity(pex.kind, pex.name, pex.version, base.sha256)
            live.is_unpacked([])

    async def _unpack(self, live: ManagedRelease) -> None:
        admitted, base = live.admitted, live.base
        assert admitted is not None
        assert base is not None
        argv = await self._threads.run(lambda: self._plant.store.worker_command(admitted, base))
        if live.release.state is ReleaseState.UNPACKING:
            live.is_unpacked(argv)

    # ---- what follows

    def look_again(self) -> None:
        """Decide once this turn of the loop is over, however much happens in it."""
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self.settle)

    def settle(self) -> None:
        """Decide now, where that is still to come."""
        if self._scheduled:
            self._scheduled = False
            self._decide()

    def _decide(self) -> None:
        if not self._stopping:
            self.rollouts.judge()
            for live in self._lives:
                live.relieve()
            self._doubt_again()
            self._choose_bases()
            self._settle_disputes()
            courses = planner.courses(self._releases(), self.rollouts.traffics)
            self.rollouts.follow(courses)
            self._follow_plan()
            self._forget_what_is_gone()
            self._draw_table(courses)
        self._changed()

    def _doubt_again(self) -> None:
        """Take up anew what nobody vouched for, where a signature, a key or the list has changed since."""
        trust = self._plant.trust
        for live in [live for live in self._lives if live.doubted is not None and live.release.in_place]:
            if trust is not None and trust.evidence(self._dist_path / live.release.file) != live.doubted:
                live.doubted = None
                self._arrived(live.release.file)

    def _choose_bases(self) -> None:
        bases = [live for live in self._lives if _is_base(live) and live.release.in_place and live.release.state in _KNOWN]
        unread = [live for live in self._lives if live.release.state is ReleaseState.VERIFYING and live.initial and live.pex is None]
        for live in self._lives:
            if live.release.state is ReleaseState.WAITING:
                live.base_pending = bool(unread)  # one of them may be its base
                if not unread:
                    _choose_base(live, bases)

    def _settle_disputes(self) -> None:
        releases, traffics = self._releases(), self.rollouts.traffics
        while found := planner.refusals(releases, traffics):
            for release, reason in found:
                self._live(release).end(ReleaseEvent.REFUSED, reason)
                release.contended = True
        for release in planner.freed(releases, traffics):
            release.contended = False
            self._live(release).step(ReleaseEvent.RETRIED)

    def _follow_plan(self) -> None:
        plan = planner.plan(self._releases(), self.rollouts.traffics, starting=self._starting and not self.table.startup_complete)
        for release in plan.demote:
            log.info("%s: is not needed any more", release.title)
            self._live(release).step(ReleaseEvent.DEMOTED)
        for release in plan.promote:
            live = self._live(release)
            live.step(ReleaseEvent.PROMOTED)
            self._do(live, self._unpack(live))

    def _forget_what_is_gone(self) -> None:
        in_use = [live.base for live in self._lives if live.release.is_model]
        for live in self._lives:
            live.prune()
            if not live.release.in_place and not live.workers:
                unused_base = _is_base(live) and (live.base is None or live.base not in in_use)
                if unused_base or (live.release.state in _IDLE and not self._may_come_back(live)):
                    live.end(ReleaseEvent.STOPPED, "")
        self._lives = [live for live in self._lives if live.release.state is not ReleaseState.STOPPED]

    def _may_come_back(self, live: ManagedRelease) -> bool:
        return live.release.state is ReleaseState.STANDBY and self.rollouts.needs(live.release)

    @property
    def _starting(self) -> bool:
        """Whether something that lay in dist/ at the start is still on its way."""
        return self._expected is None or bool(self._expected) or any(live.initial and live.pending for live in self._lives)

    def _draw_table(self, courses: Mapping[str, TrafficPlan]) -> None:
        """A new generation where anything in it changed. Once the start is over, it stays over."""
        traffics = self.rollouts.traffics
        routes: list[Route] = []
        sharing: dict[str, SplitSpec] = {}
        for name, course in courses.items():
            stand_in = course.stand_in(self._releases())
            routed = dict.fromkeys([*course.routed, *([stand_in] if stand_in else [])])
            routes += [self._live(release).route() for release in routed]
            if shared := course.sharing(traffics.get(name, TrafficPolicy()), stand_in):
                sharing[name] = shared
        drawn = RoutingTable(self.table.generation, routes, self.table.startup_complete or not self._starting, sharing)
        if drawn != self.table:
            self.table = msgspec.structs.replace(drawn, generation=drawn.generation + 1)

    def _releases(self) -> list[Release]:
        return [live.release for live in self._lives]

    def _live(self, release: Release) -> ManagedRelease:
        return next(live for live in self._lives if live.release is release)


def _marked(release: Release) -> str:
    """A release told from one with the same version."""
    identity = release.identity
    return f"{release.title} with digest {identity.sha256[:8]}" if identity and identity.sha256 else "something else"


def _likeliest_first(model: PexFile, bases: Sequence[ManagedRelease]) -> list[ManagedRelease]:
    """Of bases with one version, as rebuilds make them: the very file that a model was built on, then any that may turn out to be it."""
    wanted = model.stamp.base.sha256 if model.stamp and model.stamp.base else ""
    known = {id(base): base.base.sha256 if base.base else "" for base in bases}
    return sorted(bases, key=lambda base: (known[id(base)] != wanted, known[id(base)] != ""))


def _is_base(live: ManagedRelease) -> bool:
    return live.pex is not None and live.pex.kind == "base"


def _choose_base(live: ManagedRelease, bases: Sequence[ManagedRelease]) -> None:
    """Find the base that a model can run on; without one it waits, and says for what."""
    assert live.pex is not None
    live.base_pending = False
    try:
        chosen_pex = choose_base(live.pex, [base.pex for base in _likeliest_first(live.pex, bases) if base.pex is not None])
    except PexRefused as exc:
        if live.release.reason != exc.detail:
            live.release.reason = exc.detail
            log.warning("%s waits: %s", live.release.title, exc.detail)
        return
    chosen = next(base for base in bases if base.pex is chosen_pex)
    if chosen.base is None or chosen.release.state is not ReleaseState.RUNNING:
        live.base_pending = True
        live.release.reason = f"its base {chosen_pex.version} is being unpacked"
        return
    try:
        warnings = check_pex(live.pex, chosen_pex, base_sha256=chosen.base.sha256)
    except PexRefused as exc:
        live.end(ReleaseEvent.REFUSED, exc.detail)
    else:
        live.has_base(chosen.base, warnings)
