"""`python -m runtime.build`: bring the pexes of a checkout up to date, base first, then every model. The start script runs it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path

from base.errors import PexdockError
from runtime.build.base import build_base
from runtime.build.model import build_model
from runtime.build.pack import BuiltPex


class BuildExit(IntEnum):
    """How it ends. Without a base nothing can be served; without one of the models the others can."""

    OK = 0
    NO_BASE = 1
    SOME_MODELS_MISSING = 3
    INTERRUPTED = 130


def main(argv: Sequence[str]) -> BuildExit:
    """`python -m runtime.build CHECKOUT DIST CACHE`: progress and results go to stdout, errors to stderr."""
    checkout, dist, cache = (Path(word).resolve() for word in argv)
    try:
        dist.mkdir(parents=True, exist_ok=True)
        base = build_base(checkout, dist, cache=cache, report=_say)
    except PexdockError as exc:
        return _fail(exc, BuildExit.NO_BASE)
    _tell(base)
    result = BuildExit.OK
    for project in sorted(checkout.glob("models/*/pyproject.toml")):
        try:
            _tell(build_model(project.parent, base.path, cache=cache, report=_say))
        except PexdockError as exc:
            result = _fail(exc, BuildExit.SOME_MODELS_MISSING)
    return result


def _tell(built: BuiltPex) -> None:
    if not built.reused:
        _say(str(built))


def _say(line: str) -> None:
    print(line, flush=True)


def _fail(exc: PexdockError, code: BuildExit) -> BuildExit:
    print(f"error: {exc.detail}", file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:  # whoever started it wants it to end, and all temporary folders are gone by now
        sys.exit(BuildExit.INTERRUPTED)
