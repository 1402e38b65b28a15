"""Finds the bases in a folder of pexes, and checks a model against them, without running any of them."""

from __future__ import annotations

import contextlib
from pathlib import Path

from base.errors import PexRefused
from runtime.pex.check import check_pex, choose_base
from runtime.pex.file import PexFile, read_pex
from runtime.pex.names import is_pex_name


def find_bases(folder: Path) -> list[PexFile]:
    """Returns all bases that can be read, sorted by file name."""
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if is_pex_name(path.name):
            with contextlib.suppress(PexRefused):
                found.append(read_pex(path, checksums=False))
    return [pex for pex in found if pex.kind == "base"]


def check_against_bases(model: PexFile, folder: Path) -> tuple[PexFile, list[str]]:
    """Returns the base that a model would run on, and warnings.

    Raises:
        PexRefused: There is no such base, or the model cannot run on it.
    """
    base = choose_base(model, find_bases(folder))
    return base, check_pex(model, base)
