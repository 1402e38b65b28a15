"""The log of Pexdock's own code, which does not depend on what a model does to `logging`.

A model may disable loggers, remove handlers, forbid levels or replace `sys.stderr`. So the loggers here belong to a manager of their own,
which the functions of `logging` never touch. In a worker they write to a copy of standard error. In all other processes their records are
handed to the loggers of `logging` with the same names.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import traceback
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

LEVELS_ENV = "PEXDOCK_LOG_LEVELS"
"""Variable in the environment of a child whose parent reads its lines. If it is set, each line begins with a mark
of its level: `MARK`, the variable's value, and a letter. The value is secret, so that no text that a model prints chooses a level."""

MARK = b"\x1e"
"""The byte with which the mark of a line begins: the ASCII record separator, which texts do not contain."""

_READERS_OF_VARIABLES = frozenset({"decouple", "environs", "pydantic_settings"})
"""Packages that raise errors of their own about missing environment variables."""

_LETTERS = {"D": logging.DEBUG, "I": logging.INFO, "W": logging.WARNING, "E": logging.ERROR, "C": logging.CRITICAL}


def line_mark(secret: str) -> re.Pattern[bytes]:
    """Returns a pattern that matches the mark of a line."""
    return re.compile(MARK + f"{re.escape(secret)}[{''.join(_LETTERS)}]".encode())


def level_of_mark(mark: bytes) -> int:
    """Returns the level that a match of `line_mark` stands for."""
    return _LETTERS[mark[-1:].decode()]


class _OwnLogger(logging.Logger):
    def makeRecord(  # noqa: N802, PLR0913, PLR0917 - the name and the parameters in `logging`
        self,
        name: str,
        level: int,
        fn: str,
        lno: int,
        msg: object,
        args: Any,
        exc_info: Any,
        func: str | None = None,
        extra: Mapping[str, object] | None = None,  # noqa: ARG002 - as above
        sinfo: str | None = None,
    ) -> logging.LogRecord:
        """Makes a record without the record factory, which a model may have replaced."""
        return logging.LogRecord(name, level, fn, lno, msg, args, exc_info, func, sinfo)


class _Forwarder(logging.Handler):
    """Hands records to `logging`. Errors that `logging` would drop go to standard error, since a client may have been told of them."""

    def createLock(self) -> None:  # noqa: N802 - the name in `logging`
        """Makes no lock: the handlers that get the records have their own."""
        self.lock = None

    def emit(self, record: logging.LogRecord) -> None:
        """Hands over one record."""
        target = logging.getLogger(record.name)
        if target.isEnabledFor(record.levelno):
            target.handle(record)
        elif record.levelno >= logging.ERROR:
            sys.stderr.write(f"{_format.format(record)}\n")


class LineHandler(logging.Handler):
    """Writes records to a descriptor, line by line.

    Args:
        fd: The descriptor.
        secret: If given, each line begins with a mark of its level that has this text, instead of naming the level once.
    """

    def __init__(self, fd: int, *, secret: str | None) -> None:
        super().__init__(logging.INFO)
        self._fd = fd
        self._secret = secret
        self.setFormatter(_format if secret is None else logging.Formatter())

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one record. A descriptor that does not accept it loses it, since there is no other place to write to."""
        try:
            text = self.format(record)
            if self._secret is not None:
                letter = next((letter for letter, level in reversed(_LETTERS.items()) if record.levelno >= level), "D")
                text = "\n".join(f"{MARK.decode()}{self._secret}{letter}{line}" for line in text.split("\n"))
            data = f"{text}\n".encode(errors="backslashreplace")
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError:
            pass
        except Exception:  # noqa: BLE001 - `logging` does the same for a record that cannot be formatted
            self.handleError(record)


_format = logging.Formatter("%(levelname)s %(message)s")
_loggers = logging.Manager(logging.RootLogger(logging.DEBUG))
_loggers.setLoggerClass(_OwnLogger)
_loggers.root.addHandler(_Forwarder())


def get_logger(name: str) -> logging.Logger:
    """Returns the logger of a module of `base`."""
    return _loggers.getLogger(name)


def log_incident(log: logging.Logger, message: str, error: BaseException | None = None, level: int = logging.ERROR) -> str:
    """Logs what went wrong under a new id, with the traceback of `error` if it is given. Returns words for the client that name the id."""
    incident = uuid4().hex[:12]
    log.log(level, "%s, incident %s%s", message, incident, missing_variable_hint(error), exc_info=error)
    return f"see the log of the worker, incident {incident}"


def stderr_handler() -> LineHandler:
    """Returns a handler that writes to what is standard error now, wherever a program may lead its standard error later."""
    return LineHandler(os.dup(2), secret=os.environ.get(LEVELS_ENV))


def log_beside_model() -> None:
    """Writes Pexdock's log to standard error, and that of a model, too, unless the model configures `logging` itself.

    `logging` is left as it is in a plain program, so that `basicConfig` of a model works; only that INFO is shown by default.
    """
    handler = stderr_handler()
    os.environ.pop(LEVELS_ENV, None)  # it concerns this process, and no program that a model starts
    _loggers.root.handlers[:] = [handler]
    _loggers.root.setLevel(logging.INFO)
    logging.root.setLevel(logging.INFO)
    logging.lastResort = handler


def missing_variable_hint(error: BaseException | None) -> str:
    """Returns a hint at the setting `worker_env` if a missing environment variable is or caused the error; empty otherwise."""
    while error is not None:
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        is_environ = bool(frames) and frames[-1].f_code is type(os.environ).__getitem__.__code__
        packages = {str(frame.f_globals.get("__name__", "")).partition(".")[0] for frame in frames}
        if is_environ or packages & _READERS_OF_VARIABLES:
            example = error.args[0] if is_environ else "DB_*"
            return (
                "; workers get the usual environment variables and those that the setting worker_env names: if one is missing, "
                f"set it where Pexdock starts, and add it to worker_env (PEXDOCK_WORKER_ENV={example})"
            )
        error = error.__cause__
    return ""
