"""Fills the cache folder again when something removes its content while Pexdock runs, so that workers and front doors can be restarted."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from base.errors import PexRefused
from runtime.blocking import BlockingThreads
from runtime.file_watch import FileWatch
from runtime.pex.cache.store import AdmittedPex, UnpackedBase
from runtime.supervisor.dist.retries import failure_reason, is_transient
from runtime.supervisor.releases.managed_release import ManagedRelease
from runtime.supervisor.releases.release_context import ReleaseContext
from runtime.supervisor.releases.release_files import ReleaseFiles
from runtime.supervisor.releases.release_set import ReleaseSet
from runtime.supervisor.rollout.release_state import ReleaseState

log = logging.getLogger(__name__)

_SETTLE_S = 0.2
"""Delay in seconds after a change before the folder is looked at. It is removed in steps, of which the last needs it empty."""

_LOOK_AGAIN_S = 10.0
"""Delay in seconds after which the folder is looked at again, if something was made or could not be made for lack of resources."""

_COPIED = frozenset({ReleaseState.WAITING, ReleaseState.STANDBY, ReleaseState.RUNNING})
"""States in which a release needs its copy, and nothing is making it. Its content is needed only while it runs."""


class CacheRepair:
    """Restores unpacked bases, and the copies and unpacked content of releases, from the files in dist/ that still have their content.

    The watch of a folder notices within moments that something was removed, and no timer runs while nothing is missing. A file that is put
    back into dist/ is admitted as any file, which changes the cache too, so that what needs it is restored then.

    Args:
        context: The cache.
        releases: All releases and bases.
    """

    def __init__(self, context: ReleaseContext, releases: ReleaseSet) -> None:
        self._context = context
        self._releases = releases
        self._threads = BlockingThreads(1)  # does not wait for files that are being unpacked
        self._changed = asyncio.Event()
        self._logged_errors: dict[str, str] = {}

    async def run(self) -> None:
        """Watches and restores until this is cancelled."""
        cache = self._context.settings.cache_path
        watch = FileWatch([cache / folder / "any" for folder in ("bases", "releases")], self._changed.set)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(watch.run())
            tasks.create_task(self._restore_on_change())

    async def _restore_on_change(self) -> None:
        while True:
            await self._changed.wait()
            await asyncio.sleep(_SETTLE_S)
            self._changed.clear()
            await self._restore()

    async def _restore(self) -> None:
        """Restores whatever is missing, bases first, and says once what was made and what cannot be made."""
        needed = [(managed, managed.files, _wanted_base(managed)) for managed in self._releases if _needs_cache(managed)]
        missing = await self._threads.run(lambda: [managed for managed, files, base in needed if _is_incomplete(files, base)])
        restored, errors, again, cache_path = [], {}, False, self._context.settings.cache_path
        for managed in sorted(missing, key=lambda each: not each.files.is_base):
            if managed not in self._releases or not _needs_cache(managed):  # it was removed meanwhile
                continue
            try:
                await self._restore_files(managed)
                restored.append(managed.release.title)
            except (PexRefused, OSError) as exc:
                errors[managed.release.title] = failure_reason(exc, cache_path)
                again = again or is_transient(exc, cache_path)
        self._report(restored, errors)
        if restored or again:
            asyncio.get_running_loop().call_later(_LOOK_AGAIN_S, self._changed.set)

    async def _restore_files(self, managed: ManagedRelease) -> None:
        context, files = self._context, managed.files
        path = context.settings.dist_path / managed.release.file
        admitted, base = files.admitted, _wanted_base(managed)
        if admitted is not None:
            files.admitted = await self._threads.run(lambda: self._restore_release(admitted, path, base))
        elif base is not None:
            await self._threads.run(lambda: context.store.restore_base(base, path))

    def _restore_release(self, admitted: AdmittedPex, path: Path, base: UnpackedBase | None) -> AdmittedPex:
        if base is not None and not base.exists:
            raise PexRefused(f"its base {base.version} is missing there")
        restored = self._context.store.restore_release(admitted, path, base)
        self._context.sandbox.make_cache_folder(self._context.settings.cache_path)
        return restored

    def _report(self, restored: list[str], errors: dict[str, str]) -> None:
        cache = self._context.settings.cache_path
        if restored:
            what = ", ".join(restored)
            log.warning(
                "files in %s were removed and have been made again, for %s; exclude it from cleaners, or set cache_path", cache, what
            )
        for title, error in errors.items():
            if self._logged_errors.get(title) != error:
                remedy = "what runs serves on, but cannot be started again until its file is back in dist/"
                log.error("%s: its files in %s are missing and cannot be made again: %s; %s", title, cache, error, remedy)
        self._logged_errors = errors


def _needs_cache(managed: ManagedRelease) -> bool:
    """Returns whether a release needs files in the cache, and nothing else is making them."""
    if managed.files.admitted is not None:
        return managed.release.state in _COPIED
    return _wanted_base(managed) is not None


def _wanted_base(managed: ManagedRelease) -> UnpackedBase | None:
    """Returns the base on which a release runs, or the base itself; None if it does not run."""
    return managed.files.base if managed.release.state is ReleaseState.RUNNING else None


def _is_incomplete(files: ReleaseFiles, base: UnpackedBase | None) -> bool:
    try:
        if files.admitted is not None:
            return not files.admitted.is_complete(base)
        return base is not None and not base.exists
    except OSError:  # a folder without permissions; the attempt to restore explains it
        return True
