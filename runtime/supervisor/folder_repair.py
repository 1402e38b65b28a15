"""Makes folders and files of the supervisor again when something removes them while it runs, such as a cleaner of temporary files."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from base.errors import PexdockError
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


class FolderRepair:
    """Restores the run directory with all its sockets and the state file, the scratch folders of workers, and the stored policies.

    The watch of a folder notices within moments that it was removed, and no timer runs while nothing is missing.

    Args:
        context: The run directory, and the sandbox of workers.
        releases: All releases, whose workers have sockets and folders.
        policies: The stored traffic policies.
        restore_state_file: Writes the state file again if it was removed.
    """

    def __init__(
        self, context: ReleaseContext, releases: ReleaseSet, policies: PolicyStore, restore_state_file: Callable[[], None]
    ) -> None:
        self._context = context
        self._releases = releases
        self._policies = policies
        self._restore_state_file = restore_state_file
        self._restore_admin_socket: Callable[[], None] = lambda: None
        self._timer: asyncio.TimerHandle | None = None
        self._restoring: asyncio.Task[None] | None = None
        self._logged_errors = {"folders": "", "policies": ""}

    async def run(self, restore_admin_socket: Callable[[], None]) -> None:
        """Watches and restores until this is cancelled.

        Args:
            restore_admin_socket: Binds the socket of the admin API again if it was removed.
        """
        self._restore_admin_socket = restore_admin_socket
        folders = (self._context.run_dir.path, self._context.sandbox.scratch_path, self._context.settings.state_path)
        try:
            await FileWatch([folder / run_dir.LOCK for folder in folders], lambda: self._schedule(_SETTLE_S)).run()
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def _schedule(self, delay_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._restore)

    def _restore(self) -> None:
        """Restores whatever is missing. Nothing else depends on a step that fails, or on the disk of the policies, which may hang."""
        errors = []
        for step in (self._restore_scratch_folders, self._restore_run_dir):
            try:
                step()
            except (PexdockError, OSError) as exc:
                errors.append(str(exc))
        self._note_error("folders", "; ".join(errors))
        if self._restoring is None or self._restoring.done():
            self._restoring = asyncio.get_running_loop().create_task(self._restore_policies())
        else:
            self._schedule(_RETRY_S)

    def _note_error(self, part: str, error: str) -> None:
        """Logs what cannot be made, once, and tries again later. An empty text is a success."""
        if error and error != self._logged_errors[part]:
            log.error("a folder that Pexdock needs was removed or changed, and restoring it is retried every %g s: %s", _RETRY_S, error)
        self._logged_errors[part] = error
        if error:
            self._schedule(_RETRY_S)

    def _restore_scratch_folders(self) -> None:
        sandbox = self._context.sandbox
        made = [sandbox.restore_scratch_root(), *(worker.run.restore_scratch_folder() for worker in self._releases.workers)]
        if any(made):
            text = "folders in %s were removed and have been made again, empty; exclude it from cleaners, or set scratch_path"
            log.warning(text, sandbox.scratch_path)

    def _restore_run_dir(self) -> None:
        """Restores the run directory and its files. Nothing is put into a directory that is not ours."""
        own = self._context.run_dir
        if own.restore():
            log.warning("the run directory %s was removed and has been made again; exclude it from cleaners, or set run_path", own.path)
        self._restore_admin_socket()
        for worker in self._releases.workers:
            worker.run.restore_socket()
        self._restore_state_file()

    async def _restore_policies(self) -> None:
        error = ""
        try:
            if await self._policies.restore():
                log.warning("the traffic policies in %s were removed and have been stored again", self._context.settings.state_path)
        except (PexdockError, OSError) as exc:
            error = str(exc)
        self._note_error("policies", error)
