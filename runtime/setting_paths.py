"""The types and defaults of settings that name a folder, a file, a store or hosts. Pure, but for the environment and the current folder."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import Annotated, Any

from annotated_types import MinLen
from pydantic import AfterValidator, BeforeValidator
from pydantic_settings import NoDecode

from base.errors import PexdockError
from base.telemetry.append_log import STDOUT
from runtime.path_errors import NO_TEMPORARY_FOLDER

RUN_PATH_MAX_BYTES = 90
"""The path of a Unix socket has at most 107 bytes (`sun_path` without its NUL); the rest is left for names inside the run directory."""

_STORE = re.compile(r"(s3a?|gs|az|azure|adl|abfss?):/{1,2}[^/]")
"""URLs of object stores. One slash is enough, since `Path` collapses two of them."""


def _absolute(path: Path) -> Path:
    try:
        return path.expanduser().absolute()
    except RuntimeError as exc:
        raise ValueError(f"{path} needs a home folder, and this user has none: set HOME, or give a path without ~ at its start") from exc


def _temporary_folder() -> Path:
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as exc:
        raise PexdockError(f"{NO_TEMPORARY_FOLDER}, or set run_path and scratch_path") from exc


def _short_enough(path: Path) -> Path:
    size = len(os.fsencode(path))
    if size > RUN_PATH_MAX_BYTES:
        raise ValueError(
            f"{path} has {size} bytes; use a shorter path of at most {RUN_PATH_MAX_BYTES}, since Unix sockets are created in it"
        )
    return path


def _store_url(url: str) -> str:
    if not _STORE.match(url) or "@" in url:
        raise ValueError(
            "not the URL of an object store; use s3://bucket/prefix, gs://bucket/prefix or az://container/prefix, without credentials"
        )
    return url


def default_cache_path() -> Path:
    """Returns the folder of this user for caches."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "pexdock"


def default_dist_path(data: dict[str, Any]) -> Path:
    """Returns `dist`, or a folder in the cache for the contents of `dist_url`."""
    url = data.get("dist_url")
    return (
        Path("dist")
        if url is None
        else data.get("cache_path", default_cache_path()) / "dists" / hashlib.sha256(url.encode()).hexdigest()[:12]
    )


def _folder(path: Path) -> Path:
    if "://" in str(path) or _STORE.match(f"{path}/"):
        raise ValueError("not a folder; set dist_url to the URL of an object store")
    return _absolute(path)


def _name_of_dist(data: dict[str, Any]) -> str:
    return hashlib.sha256(os.fsencode(data.get("dist_path", Path("dist")).resolve())).hexdigest()[:12]


def default_state_path(data: dict[str, Any]) -> Path:
    """Returns a folder of this user for this dist/. It is the same on every start, so that traffic policies outlive a restart."""
    return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state") / "pexdock" / _name_of_dist(data)


def default_run_path(data: dict[str, Any]) -> Path:
    """Returns a folder of this user for this dist/. It is the same on every start, so that two supervisors of one dist/ find each other."""
    name = _name_of_dist(data)
    if runtime_dir := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime_dir) / f"pexdock-{name}"
    path = _temporary_folder() / f"pexdock-{os.getuid()}-{name}"
    return path if len(os.fsencode(path)) <= RUN_PATH_MAX_BYTES else Path("/tmp") / path.name  # noqa: S108 - taken with mode 0700 and checked


def default_scratch_path(data: dict[str, Any]) -> Path:
    """Returns a folder for this run directory, whose lock guards the scratch folder as well."""
    name = hashlib.sha256(os.fsencode(data.get("run_path", Path()))).hexdigest()[:12]
    return _temporary_folder() / f"pexdock-scratch-{os.getuid()}-{name}"


def _appended(path: str) -> str:
    return path if path == STDOUT else str(_absolute(Path(path)))


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
AppendedPath = Annotated[str, MinLen(1), AfterValidator(_appended)]
RunPath = Annotated[AbsolutePath, AfterValidator(_short_enough)]
DistPath = Annotated[Path, AfterValidator(_folder)]
StoreUrl = Annotated[str, AfterValidator(_store_url)]


def split_hosts(value: object) -> object:
    """Returns the hosts in a list, or in a text that separates them by commas."""
    texts = value if isinstance(value, list | tuple) else [value]
    hosts = [host.strip() for text in texts for host in str(text).split(",")]
    if not all(hosts):
        raise ValueError("names no host; give an address of this machine, or several, separated by commas")
    return tuple(dict.fromkeys(hosts))


Hosts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_hosts), MinLen(1)]
