"""`python -m runtime.build`: brings the pexes of a checkout up to date, first the base, then every model. The start script runs it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path

from base.errors import PexdockError
from runtime.build.base import build_base
from runtime.build.model import build_model
from runtime.build.pack import BuiltPex
from runtime.path_errors import explain_os_error


class BuildExit(IntEnum):
    """Exit codes. Without a base nothing can be served; without some of the models the others can."""

    OK = 0
    NO_BASE = 1
    SOME_MODELS_MISSING = 3
    INTERRUPTED = 130


def main(argv: Sequence[str]) -> BuildExit:
    """Runs `python -m runtime.build CHECKOUT DIST CACHE`. Progress and results go to stdout, errors to stderr."""
    checkout, dist, cache = (Path(argument).resolve() for argument in argv)
    try:
        dist.mkdir(parents=True, exist_ok=True)
        base = build_base(checkout, dist, cache=cache, report=_print_line)
    except PexdockError as exc:
        return _print_error(exc.detail, BuildExit.NO_BASE)
    except OSError as exc:
        return _print_error(explain_os_error(exc, {"dist_path": dist, "cache_path": cache}), BuildExit.NO_BASE)
    _print_result(base)
    result = BuildExit.OK
    for project in sorted(checkout.glob("models/*/pyproject.toml")):
        try:
            _print_result(build_model(project.parent, base.path, cache=cache, report=_print_line))
        except PexdockError as exc:
            result = _print_error(exc.detail, BuildExit.SOME_MODELS_MISSING)
    return result


def _print_result(built: BuiltPex) -> None:
    if not built.reused:
        _print_line(str(built))
        for warning in built.warnings:
            _print_line(f"warning: {warning}")


def _print_line(line: str) -> None:
    print(line, flush=True)


def _print_error(text: str, code: BuildExit) -> BuildExit:
    print(f"error: {text}", file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:  # all temporary folders are gone by now
        sys.exit(BuildExit.INTERRUPTED)
