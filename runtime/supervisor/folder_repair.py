"""Makes folders and files of the supervisor again when something removes them while it runs, such as a cleaner of temporary files."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from base.errors import PexdockError
from runtime.blocking import BlockingThreads
from runtime.file_watch import FileWatch
from runtime.supervisor.host import run_dir
from runtime.supervisor.releases.release_context import ReleaseContext
from runtime.supervisor.releases.release_set import ReleaseSet
from runtime.supervisor.rollout.policy_store import PolicyStore

log = logging.getLogger(__name__)

_SETTLE_S = 0.2
"""Delay in seconds after the last change before something is made again. A folder is removed in steps, of which the last needs it empty."""

_RETRY_S = 2.0
"""Interval in seconds at which something that could not be made is tried again."""

Step = Callable[[], Awaitable[None]]


class FolderRepair:
    """Restores the run directory with all its sockets and the state file, the scratch folders of workers, and the stored policies.

    The watch of a folder notices within moments that it was removed, and no timer runs while nothing is missing.

    Args:
        context: The run directory, and the sandbox of workers.
        releases: All releases, whose workers have sockets and folders.
        policies: The stored traffic policies.
        restore_state_file: Writes the state file again if it was removed.
        restore_sockets: Make the sockets of the admin API and of the job runner again if they were removed.
    """

    def __init__(
        self,
        context: ReleaseContext,
        releases: ReleaseSet,
        policies: PolicyStore,
        restore_state_file: Step,
        restore_sockets: Sequence[Step],
    ) -> None:
        self._context = context
        self._releases = releases
        self._policies = policies
        self._in_run_dir: list[Step] = [*restore_sockets, self._restore_worker_sockets, restore_state_file]
        self._disk = BlockingThreads(1, f"run_path ({context.run_dir.path})")
        self._scratch_disk = BlockingThreads(1, f"scratch_path ({context.sandbox.scratch_path})")
        self._timer: asyncio.TimerHandle | None = None
        self._restoring: dict[Step, asyncio.Task[None]] = {}
        self._logged_errors: dict[Step, str] = {}

    async def run(self) -> None:
        """Watches and restores until this is cancelled."""
        folders = (self._context.run_dir.path, self._context.sandbox.scratch_path, self._context.settings.state_path)
        try:
            async with asyncio.TaskGroup() as tasks:  # a watch of all of them would wait for each of their disks
                for folder in folders:
                    tasks.create_task(FileWatch([folder / run_dir.LOCK], lambda: self._schedule(_SETTLE_S)).run())
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def _schedule(self, delay_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._restore)

    def _restore(self) -> None:
        """Restores whatever is missing. Nothing else depends on a step that fails, or whose disk hangs."""
        for step in (self._restore_scratch_folders, self._restore_run_dir, self._restore_policies):
            if step not in self._restoring or self._restoring[step].done():
                self._restoring[step] = asyncio.get_running_loop().create_task(self._take_step(step))
            else:
                self._schedule(_RETRY_S)

    async def _take_step(self, step: Step) -> None:
        """Restores one part. Logs once what cannot be made, and tries again later."""
        error = ""
        try:
            await step()
        except (PexdockError, OSError) as exc:
            error = str(exc)
        if error and error != self._logged_errors.get(step):
            log.error("a folder that Pexdock needs was removed or changed, and restoring it is retried every %g s: %s", _RETRY_S, error)
        self._logged_errors[step] = error
        if error:
            self._schedule(_RETRY_S)

    async def _restore_scratch_folders(self) -> None:
        sandbox = self._context.sandbox
        made = await self._scratch_disk.run(sandbox.restore_scratch_root)
        for worker in self._releases.workers:
            made = await worker.run.restore_scratch_folder() or made
        if made:
            text = "folders in %s were removed and have been made again, empty; exclude it from cleaners, or set scratch_path"
            log.warning(text, sandbox.scratch_path)

    async def _restore_run_dir(self) -> None:
        """Restores the run directory and its files. Nothing is put into a directory that is not ours."""
        own = self._context.run_dir
        if await self._disk.run(own.restore):
            log.warning("the run directory %s was removed and has been made again; exclude it from cleaners, or set run_path", own.path)
        for restore in self._in_run_dir:
            await restore()

    async def _restore_worker_sockets(self) -> None:
        for worker in self._releases.workers:
            await worker.run.restore_socket()

    async def _restore_policies(self) -> None:
        if await self._policies.restore():
            log.warning("the traffic policies in %s were removed and have been stored again", self._context.settings.state_path)
