"""Real pexes for tests. The user's cache keeps them by the hash of their sources, so an unchanged tree builds nothing twice."""

import sys
from pathlib import Path

import base
import runtime.settings
from runtime.build.base import build_base
from runtime.build.model import build_model

ROOT = Path(__file__).parent.parent.parent
MODELS = ("iris", "transactions", "legacy_iris", "forecast")


def cache():
    """Returns the cache folder that `pexdock build` and `./entrypoint.sh` use, too."""
    return runtime.settings.load().cache_path


def report(line):
    """Prints progress for pytest -s."""
    sys.stderr.write(f"{line}\n")


def build_all(folder):
    """Builds base and every example model."""
    base_pex = build_base(ROOT, folder / f"base-{base.__version__}.pex", cache=cache(), report=report).path
    for model in MODELS:
        build_model(ROOT / "models" / model, base_pex, cache=cache(), report=report)
