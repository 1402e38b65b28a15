"""Runs the release that is installed in this process: from the discovery of its endpoints to the exit code."""

from __future__ import annotations

import faulthandler
import gc
import os
import socket
import sys
from pathlib import Path

import base
from base.endpoint.discovery import discover
from base.errors import PexdockError
from base.forks import OwnProcess, call_in_forked_child, ignore_stop_signals
from base.ipc.control import (
    BATCH_CHECK_ENV,
    BATCH_CHECK_OFF,
    BATCH_CHECK_REFUSE,
    DESCRIBE_ENV,
    RELEASE_ID_ENV,
    RETRYABLE_CODES,
    WARM_UP_ENV,
    WARM_UP_LENIENT,
    WIRE_VERSION,
    ControlMessage,
    Described,
    ExitCode,
    Failed,
    Ready,
    encode_message,
)
from base.log import get_logger, log_beside_model, missing_variable_hint
from base.telemetry.loop_watchdog import TURN_WARN_VARIABLE
from base.telemetry.recorder import Reporter, WorkerMetrics, metrics_config_from
from base.worker.worker import Worker

log = get_logger(__name__)

_CANNOT_LOAD = "cannot_load"


def run_installed(control: socket.socket, socket_path: Path) -> ExitCode:
    """Runs the release that is installed in this process, for the supervisor that started it.

    Args:
        control: This process's end of the control socket.
        socket_path: Path of the socket on which the worker listens.
    """
    log_beside_model()
    if sys._xoptions.pop("faulthandler", None):  # noqa: SLF001 - multiprocessing would pass the option on
        os.register_at_fork(after_in_child=faulthandler.disable)
    process = OwnProcess()
    call_in_forked_child(control.close)
    place = ""
    # The model has no use for these, and those that are no settings would be errors in a `pexdock` that it starts.
    release_id = os.environ.pop(RELEASE_ID_ENV, "")
    lenient = os.environ.pop(WARM_UP_ENV, "") == WARM_UP_LENIENT  # the supervisor has started this release successfully before
    batch_check = BATCH_CHECK_OFF if lenient else os.environ.get(BATCH_CHECK_ENV, BATCH_CHECK_REFUSE)
    os.environ.pop(BATCH_CHECK_ENV, None)
    describes = os.environ.pop(DESCRIBE_ENV, "")
    turn_warn_ms = float(os.environ.pop(TURN_WARN_VARIABLE, "0"))
    try:
        model, version, endpoints = discover()
        process.end_if_forked()  # the model's code forked while it was imported; there must be one worker
        metrics_config = metrics_config_from(os.environ)
        recorder = None if metrics_config is None else WorkerMetrics(model, version, metrics_config.values_max)
        worker = Worker(model, version, endpoints, socket_path, control, recorder)
        worker.watch_turns(turn_warn_ms, recorder)
        release = worker.listen(release_id)
        if describes:
            _send(control, Described(release))
        place = "in its warm-up: "
        warnings = worker.warm_up(lenient=lenient, batch_check=batch_check)
        process.end_if_forked()
    except BaseException as exc:  # noqa: BLE001 - the model's own code may raise anything, `SystemExit` too
        process.end_if_forked(exc)
        return _report_failure(control, exc, place)
    ignore_stop_signals()  # the model's code may have set handlers when it was imported
    # Everything imported so far stays. Otherwise the garbage collector would scan all of it during a batch: 0.3 s with scikit-learn.
    gc.freeze()
    _send(control, Ready(WIRE_VERSION, base.__version__, release, warnings))
    if recorder is None or metrics_config is None:
        return worker.run()
    with Reporter(recorder, metrics_config.interval_s, worker.send_to_parent):
        return worker.run()


def _report_failure(control: socket.socket, error: BaseException, place: str) -> ExitCode:
    """Tells the supervisor and the log why this worker cannot serve."""
    match error:
        case PexdockError():
            code, reason = error.code, f"{error.detail}{missing_variable_hint(error)}"
        case SystemExit():
            code, reason = _CANNOT_LOAD, f"the model's code called sys.exit({error.code!r})"
        case _:
            code, reason = _CANNOT_LOAD, f"{type(error).__name__}: {error}{missing_variable_hint(error)}"
    was_logged = place and isinstance(error, PexdockError)  # with the author's traceback
    is_exit = isinstance(error, SystemExit) or isinstance(error.__cause__, SystemExit)  # the model has said why, in the last lines before
    log.error("the worker cannot start: %s%s", place, reason, exc_info=None if was_logged or is_exit else error)
    _send(control, Failed(code, f"{place}{reason}"))
    return ExitCode.CRASHED if code in RETRYABLE_CODES else ExitCode.CANNOT_LOAD


def _send(control: socket.socket, message: ControlMessage) -> None:
    control.sendall(encode_message(message))
