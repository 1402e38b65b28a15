"""The bases that lie in a folder of pexes, and whether a model fits one of them. Runs nothing of them."""

from __future__ import annotations

import contextlib
from pathlib import Path

from base.errors import PexRefused
from runtime.pex.check import check_pex, choose_base
from runtime.pex.file import PexFile, read_pex
from runtime.pex.names import is_pex_name


def find_bases(folder: Path) -> list[PexFile]:
    """Every base that can be read, by file name."""
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if is_pex_name(path.name):
            with contextlib.suppress(PexRefused):  # the next one may be one
                found.append(read_pex(path, checksums=False))
    return [pex for pex in found if pex.kind == "base"]


def check_against_bases(model: PexFile, folder: Path) -> tuple[PexFile, list[str]]:
    """The base that a model would run on, and warnings.

    Raises:
        PexRefused: there is none, or it does not fit.
    """
    on = choose_base(model, find_bases(folder))
    return on, check_pex(model, on)
