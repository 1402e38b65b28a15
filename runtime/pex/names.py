"""File names of pexes in dist/."""

from __future__ import annotations

from pathlib import Path

SUFFIX = ".pex"


def has_pex_suffix(name: str) -> bool:
    """Returns whether a file of this name should be served. A leading dot marks a file that is still being written."""
    return name.endswith(SUFFIX) and not name.startswith(".")


def is_pex_name(name: str) -> bool:
    """Returns whether a file of this name can be served. Line feeds and undecodable bytes are refused, since logs and tables show names."""
    return has_pex_suffix(name) and name.isprintable()


def find_pexes(folder: Path) -> list[Path]:
    """Returns the files of a folder that can be served, by name; an empty list if the folder does not exist.

    Raises:
        OSError: The folder cannot be read.
    """
    return sorted(path for path in folder.iterdir() if is_pex_name(path.name)) if folder.is_dir() else []


def belongs_to_dist(name: str) -> bool:
    """Returns whether a file of this name is a pex or the signature of one."""
    return is_pex_name(name.removesuffix(".sig"))
