"""Reads uv.lock."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from packaging.markers import Marker

from runtime.build.locks.pin import Pin, git_link


def read_uv(lock: Path) -> Iterator[Pin]:
    """Yields the pins of a uv.lock that apply to this interpreter and machine, those of all groups and extras."""
    for package in tomllib.loads(lock.read_text())["package"]:
        markers = package.get("resolution-markers", [])
        if not markers or any(Marker(marker).evaluate() for marker in markers):
            yield _pin(package, lock.parent)


def _pin(package: Mapping[str, Any], root: Path) -> Pin:
    source = package["source"]
    files = [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
    hashes = tuple(sorted({file["hash"] for file in files if "hash" in file}))
    pin = {"name": package["name"], "version": package.get("version", "")}
    match source:
        case {"registry": index}:
            # pip looks in the indexes that it is configured with, too: a machine may reach a mirror alone.
            where = f"--extra-index-url {index}" if "://" in index else f"--find-links {(root / index).resolve()}"
            return Pin(**pin, hashes=hashes, options=(where,))
        case {"git": url}:
            parts = urlsplit(url)
            subdirectory = source.get("subdirectory") or parse_qs(parts.query).get("subdirectory", [None])[0]
            return Pin(**pin, link=git_link(parts._replace(query="", fragment="").geturl(), parts.fragment, subdirectory))
        case {"url": url}:
            return Pin(**pin, hashes=hashes, link=url)
        case {"path": path}:
            return Pin(**pin, hashes=hashes, link=(root / path).resolve().as_uri())
        case _:
            folder = source.get("directory") or source.get("editable") or source["virtual"]
            return Pin(**pin, link=(root / folder).resolve().as_uri())
