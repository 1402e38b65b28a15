"""File names of pexes in dist/."""

from __future__ import annotations

SUFFIX = ".pex"


def has_pex_suffix(name: str) -> bool:
    """Whether somebody who drops this wants it served. A leading dot marks a file that is still being written."""
    return name.endswith(SUFFIX) and not name.startswith(".")


def is_pex_name(name: str) -> bool:
    """Whether a file of this name can be served. Line feeds and bytes that are no text would stand in the log and in tables."""
    return has_pex_suffix(name) and name.isprintable()


def belongs_to_dist(name: str) -> bool:
    """Whether a file of this name is a pex or the signature of one."""
    return is_pex_name(name.removesuffix(".sig"))
