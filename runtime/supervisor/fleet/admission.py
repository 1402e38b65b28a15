"""Prepares files of dist/ as releases that can be started: checks trust, verifies, copies into the cache, and unpacks."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path

from base.errors import PexRefused
from runtime.blocking import BlockingThreads
from runtime.pex.cache.store import AdmittedPex, UnpackedBase
from runtime.pex.file import PexFile, read_pex
from runtime.pex.trust.policy import TrustPolicy, Untrusted
from runtime.supervisor.dist.retries import Retries, failure_reason, is_transient
from runtime.supervisor.fleet.file_claims import FileClaims
from runtime.supervisor.releases.managed_release import ManagedRelease
from runtime.supervisor.releases.release_context import ReleaseContext
from runtime.supervisor.releases.release_set import ReleaseSet
from runtime.supervisor.rollout.release import Identity, Release
from runtime.supervisor.rollout.release_state import ReleaseEvent, ReleaseState

log = logging.getLogger(__name__)

_RETRYABLE = frozenset({ReleaseState.REFUSED, ReleaseState.FAILED})


class Admission:
    """Prepares releases: verifies and unpacks them on threads, one task each.

    Args:
        context: Parts of the supervisor that every release needs.
        threads: Threads for work in the cache, which does not wait for dist/.
        releases: All releases, to which new ones are added.
        claims: Files that each release holds.
        new_release: Makes the run-time side of a release.
        on_changed: Called when a task has ended.
    """

    def __init__(
        self,
        context: ReleaseContext,
        threads: BlockingThreads,
        releases: ReleaseSet,
        claims: FileClaims,
        new_release: Callable[[Release], ManagedRelease],
        on_changed: Callable[[], None],
    ) -> None:
        self._context = context
        self._dist_path, self._cache_path = context.settings.dist_path, context.settings.cache_path
        self._threads = threads
        self._reading = BlockingThreads(context.settings.start_parallel)
        self._trust_disk = BlockingThreads(1, "the files of trusted_keys_path, trusted_digests_path and signatures in dist_path")
        self._readmitting: asyncio.Task[None] | None = None
        self._readmit_again = False
        self._releases = releases
        self._claims = claims
        self._new_release = new_release
        self._on_changed = on_changed
        self._tasks: set[asyncio.Task[None]] = set()
        self._next_order = 0
        self._retries = Retries(self._cache_path, self._retry)
        self._stopped = False

    def stop(self) -> None:
        """Cancels all tasks, and starts no further ones."""
        self._stopped = True
        self._retries.close()
        for task in self._tasks:
            task.cancel()

    def admit_file(self, name: str) -> None:
        """Starts to verify a file of dist/ as a new release."""
        log.info("%s: found", name)
        managed = self._new_release(Release(name, self._next_order))
        self._next_order += 1
        self._releases.add(managed)
        self._start_task(managed, self._verify(managed))

    def unpack(self, managed: ManagedRelease) -> None:
        """Starts to unpack a release on its base."""
        self._start_task(managed, self._unpack(managed))

    def readmit_trusted(self) -> None:
        """Starts to verify untrusted files again if a signature, a key or a list has changed since."""
        if self._context.trust is None or not any(map(_is_untrusted, self._releases)):
            return
        self._readmit_again = True
        if self._readmitting is None or self._readmitting.done():
            self._readmitting = asyncio.get_running_loop().create_task(self._readmit_trusted(self._context.trust))

    async def _readmit_trusted(self, trust: TrustPolicy) -> None:
        while self._readmit_again and not self._stopped:
            self._readmit_again = False
            for managed in [managed for managed in self._releases if _is_untrusted(managed)]:
                name = managed.release.file
                found = await self._trust_disk.run(functools.partial(trust.evidence, self._dist_path / name))
                if _is_untrusted(managed) and found != managed.files.untrusted_evidence and not self._stopped:
                    managed.files.untrusted_evidence = None
                    self.admit_file(name)

    def _start_task(self, managed: ManagedRelease, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._run_task(managed, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run_task(self, managed: ManagedRelease, work: Coroutine[None, None, None]) -> None:
        try:
            await work
            self._note_outcome(managed, None)
        except PexRefused as exc:
            managed.files.untrusted_evidence = exc.evidence if isinstance(exc, Untrusted) else None
            managed.leave(ReleaseEvent.REFUSED, failure_reason(exc, self._cache_path) + self._note_outcome(managed, exc))
        except Exception as exc:  # a fault of one release must not stop the others
            if not is_transient(exc, self._cache_path):
                log.exception("cannot prepare %s", managed.release.file)
            managed.leave(ReleaseEvent.FAILED, failure_reason(exc, self._cache_path) + self._note_outcome(managed, exc))
        if managed.release.in_place:  # a later file may not be verified yet
            self._claims.release_file(managed.release.file, replaced_by=managed, before=managed.release.order)
        self._on_changed()  # a copy causes no transition, but other releases may wait for its outcome

    def _note_outcome(self, managed: ManagedRelease, error: Exception | None) -> str:
        """Returns a text about a retry to add to the error; empty if the file has other content by now."""
        text = self._retries.on_attempt_ended(managed.release.file, error) if managed.release.in_place else ""
        managed.files.retry_due = bool(text)
        managed.release.keeps_failing = self._retries.attempts(managed.release.file) >= self._context.settings.probation_crashes_max
        return text

    def _retry(self, name: str) -> None:
        """Retries a file that failed because of the machine, unless its state has changed meanwhile."""
        if self._stopped:
            return
        if any(managed.release.in_place and managed.release.state in _RETRYABLE for managed in self._releases.of_file(name)):
            self.admit_file(name)

    async def _verify(self, managed: ManagedRelease) -> None:
        path = await self._reading.run(lambda: self._context.trusted_path(self._dist_path / managed.release.file))
        pex = await self._reading.run(lambda: read_pex(path, checksums=False))
        managed.files.pex = pex
        if pex.kind == "base":
            await self._unpack_base(managed, path, pex)
            return
        admitted, copy = await self._reading.run(lambda: self._copy(path))
        if self._is_new(managed, ReleaseState.VERIFYING, admitted.sha256):
            managed.set_admitted(admitted, copy)

    def _copy(self, path: Path) -> tuple[AdmittedPex, PexFile]:
        admitted = self._context.store.admit(path)
        return admitted, read_pex(admitted.path)

    async def _unpack_base(self, managed: ManagedRelease, path: Path, pex: PexFile) -> None:
        managed.release.identity = Identity(pex.kind, pex.name, pex.version, "")
        managed.step(ReleaseEvent.IS_BASE)
        base = await self._reading.run(lambda: self._context.store.unpack_base(path))
        if self._is_new(managed, ReleaseState.UNPACKING, base.sha256):
            managed.files.base, managed.files.pex = base, base.pexfile
            managed.release.identity = Identity(pex.kind, pex.name, pex.version, base.sha256)
            managed.set_unpacked([])

    async def _unpack(self, managed: ManagedRelease) -> None:
        admitted, base = managed.files.admitted, managed.files.base
        assert admitted is not None
        assert base is not None
        argv = await self._threads.run(lambda: self._make_command(admitted, base))
        if managed.release.state is ReleaseState.UNPACKING:
            managed.set_unpacked(argv)

    def _make_command(self, admitted: AdmittedPex, base: UnpackedBase) -> list[str]:
        self._context.sandbox.make_cache_folder(self._cache_path)
        return self._context.store.worker_command(admitted, base)

    def _is_new(self, managed: ManagedRelease, expected: ReleaseState, sha256: str) -> bool:
        """Returns whether a release is still in the expected state, still has its file, and has content that no other release has."""
        release = managed.release
        return release.state is expected and release.in_place and not self._claims.claim_existing(managed, sha256)


def _is_untrusted(managed: ManagedRelease) -> bool:
    """Returns whether a file that is still in dist/ was refused because it is not trusted."""
    return managed.files.untrusted_evidence is not None and managed.release.in_place
