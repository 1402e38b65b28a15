"""Reports the metric `ModelReady` of each model at regular intervals, so that an alarm notices a model that does not serve."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from base.ipc.metrics_report import MetricsConfig, MetricsReport
from runtime.model_state import MEANINGS, ModelState
from runtime.supervisor.traffic.model_states import ModelStateTracker

_SETTLED = frozenset({ModelState.FAILED, ModelState.REFUSED})
"""States in which a model is reported although no version of it is known."""


class StateMetrics:
    """Reports once per interval while it is started. Without a configuration it does nothing.

    Args:
        states: The states of all models.
        config: Interval of the metrics; None if they are disabled.
        report: Receives the reports.
    """

    def __init__(self, states: ModelStateTracker, config: MetricsConfig | None, report: Callable[[MetricsReport], None]) -> None:
        self._states = states
        self._config = config
        self._report = report
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Starts the first interval."""
        if self._config is not None:
            self._timer = asyncio.get_running_loop().call_later(self._config.interval_s, self._on_interval_over)

    def stop(self) -> None:
        """Reports nothing more. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_interval_over(self) -> None:
        now_ms = int(time.time() * 1000)
        for model, found in self._states.current.items():
            if found.version or found.state in _SETTLED:
                self._report(MetricsReport(now_ms, model, found.version, "", {"ModelReady": int(MEANINGS[found.state].ready)}, {}))
        self.start()
