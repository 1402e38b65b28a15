"""The two timed phases of a release around a traffic shift: probation after it gained traffic, and warm standby after it lost traffic."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from runtime.supervisor.rollout.probation import Probation
from runtime.supervisor.rollout.release import Release

log = logging.getLogger(__name__)


class RolloutTimers:
    """The probation and the warm standby of one release. Both also set flags of its `Release`.

    Args:
        release: The release.
        on_changed: Called when a phase was ended by its timer.

    Attributes:
        probation: Counts of the probation; None if it is not on probation.
        passed_probation: Whether the release has completed a probation.
        standby_until: Wall clock time of the end of the warm standby; empty if it is not on warm standby.
    """

    def __init__(self, release: Release, on_changed: Callable[[], None]) -> None:
        self._release = release
        self._on_changed = on_changed
        self._standby_timer: asyncio.TimerHandle | None = None
        self._probation_timer: asyncio.TimerHandle | None = None
        self.probation: Probation | None = None
        self.passed_probation = False
        self.standby_until = ""

    def start_standby(self, time_s: float, until: str) -> None:
        """Keeps the release up without requests for `time_s`."""
        self.stop_standby()
        self._release.warm_standby, self.standby_until = True, until
        self._standby_timer = asyncio.get_running_loop().call_later(time_s, self._on_standby_over)

    def stop_standby(self) -> None:
        """Ends the warm standby. Idempotent."""
        self._release.warm_standby, self.standby_until = False, ""
        if self._standby_timer is not None:
            self._standby_timer.cancel()
            self._standby_timer = None

    def start_probation(self, probation: Probation, time_s: float, on_passed: Callable[[], None]) -> None:
        """Puts the release on probation for `time_s`, and calls `on_passed` if it passes."""
        self.stop_probation()
        self.probation, self._release.on_probation = probation, True
        self._probation_timer = asyncio.get_running_loop().call_later(time_s, self._on_probation_passed, on_passed)

    def stop_probation(self) -> None:
        """Ends the probation without a verdict. Idempotent."""
        self.probation, self._release.on_probation = None, False
        if self._probation_timer is not None:
            self._probation_timer.cancel()
            self._probation_timer = None

    def stop(self) -> None:
        """Ends both phases."""
        self.stop_standby()
        self.stop_probation()

    def _on_standby_over(self) -> None:
        log.info("%s: its warm standby for a rollback is over", self._release.title)
        self.stop_standby()
        self._on_changed()

    def _on_probation_passed(self, on_passed: Callable[[], None]) -> None:
        self.stop_probation()
        self.passed_probation = True
        on_passed()
        self._on_changed()
