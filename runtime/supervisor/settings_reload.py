"""Reads the settings again on SIGHUP, and decides which changes apply while Pexdock runs. Does not know how they are applied."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from base.errors import PexdockError
from runtime.blocking import BlockingThreads
from runtime.settings import Settings

log = logging.getLogger(__name__)

RELOADABLE = frozenset(
    {
        *("body_max_bytes", "connections_max", "queue_max_rows", "queue_max_bytes", "queue_max_wait_s"),
        *("workers_per_release", "worker_recycle_bytes", "start_timeout_s", "start_nice", "batch_check"),
        *("restart_delay_min_s", "restart_delay_max_s"),
        *("probation_s", "probation_errors_percent", "probation_requests_min", "probation_crashes_max", "rollback_window_s"),
        *("pre_stop_delay_s", "cache_max_bytes", "log_level"),
    }
)
"""Settings whose changes apply without a restart. The second and third lines apply to releases that start afterwards."""


class SettingsReloader:
    """The settings in force.

    Args:
        settings: The settings at the start.
        load: Reads and checks the settings from all sources again; raises PexdockError or OSError if they cannot be used.
        apply: Applies new settings, of which only some have changed.
    """

    def __init__(self, settings: Settings, load: Callable[[], Settings], apply: Callable[[Settings], None]) -> None:
        self._settings = settings
        self._load = load
        self._apply = apply
        self._disk = BlockingThreads(1, "the files of settings")
        self._reloading: set[asyncio.Task[None]] = set()

    def reload(self) -> None:
        """Starts to read the settings. Applies the changes that can be applied, and logs these and the others.

        Settings that cannot be used change nothing.
        """
        task = asyncio.get_running_loop().create_task(self._reload())
        self._reloading.add(task)
        task.add_done_callback(self._reloading.discard)

    async def _reload(self) -> None:
        try:
            found = await self._disk.run(self._load)
        except (PexdockError, OSError) as exc:
            log.error("the settings cannot be read again, and stay as they are: %s", exc)  # noqa: TRY400 - the reason is complete
            return
        changed = [name for name in Settings.model_fields if getattr(found, name) != getattr(self._settings, name)]
        applied = {name: getattr(found, name) for name in changed if name in RELOADABLE}
        for name in changed:
            before, now = getattr(self._settings, name), getattr(found, name)
            effect = "" if name in applied else ", which needs a restart: the old value stays in force"
            log.log(logging.INFO if name in applied else logging.WARNING, "%s changes from %s to %s%s", name, before, now, effect)
        if not changed:
            log.info("no setting has changed")
        self._settings = self._settings.model_copy(update=applied)
        self._apply(self._settings)
