"""Runs the release that is installed in this process: from the discovery of its endpoints to the exit code."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
import traceback
from pathlib import Path

import base
from base.endpoint.discovery import discover
from base.errors import PexdockError
from base.ipc.control import RETRYABLE_CODES, WIRE_VERSION, ControlMessage, ExitCode, Failed, Ready, encode_message
from base.telemetry.recorder import Reporter, WorkerMetrics, metrics_config_from
from base.worker.warm_up import is_lenient
from base.worker.worker import Worker


def run_installed(control: socket.socket, socket_path: Path) -> ExitCode:
    """Runs the release that is installed in this process, for the supervisor that started it.

    Args:
        control: This process's end of the control socket.
        socket_path: Path of the socket on which the worker listens.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C in a terminal reaches the whole group; the supervisor sends Drain
    try:
        original = os.getpid()
        model, version, endpoints = discover()
        if os.getpid() != original:  # the model's code forked while it was imported; there must be one worker
            os._exit(ExitCode.OK)
        metrics_config = metrics_config_from(os.environ)
        recorder = None if metrics_config is None else WorkerMetrics(model, version, metrics_config.values_max)
        worker = Worker(model, version, endpoints, socket_path, control, recorder)
        release = worker.listen()
    except PexdockError as exc:
        return _report_cannot_load(control, exc.code, exc.detail)
    except Exception as exc:  # noqa: BLE001 - the model's own code may raise anything while it is imported or its store is listed
        return _report_cannot_load(control, "cannot_load", f"{type(exc).__name__}: {exc}")
    try:
        warnings = worker.warm_up(lenient=is_lenient())
    except PexdockError as exc:  # the author's traceback is in the log
        _send(control, Failed(exc.code, f"in its warm-up: {exc.detail}"))
        worker.close()
        return ExitCode.CRASHED if exc.code in RETRYABLE_CODES else ExitCode.CANNOT_LOAD
    if os.getpid() != original:
        os._exit(ExitCode.OK)
    os.register_at_fork(after_in_child=worker.on_fork)
    signal.signal(signal.SIGTERM, lambda *_: worker.drain())  # earlier, nobody waits for answers, and the default ends the process at once
    # Everything imported so far stays. Otherwise the garbage collector would scan all of it during a batch: 0.3 s with scikit-learn.
    gc.freeze()
    _send(control, Ready(WIRE_VERSION, base.__version__, release, warnings))
    if recorder is None or metrics_config is None:
        return worker.run()
    with Reporter(recorder, metrics_config.interval_s, worker.send_to_parent):
        return worker.run()


def _report_cannot_load(control: socket.socket, code: str, reason: str) -> ExitCode:
    traceback.print_exc()
    sys.stderr.flush()
    _send(control, Failed(code, reason))
    return ExitCode.CRASHED if code in RETRYABLE_CODES else ExitCode.CANNOT_LOAD


def _send(control: socket.socket, message: ControlMessage) -> None:
    control.sendall(encode_message(message))
