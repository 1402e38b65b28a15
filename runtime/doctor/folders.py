"""Checks the folders, the port and the admin token that the settings name."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from base.errors import PexdockError
from base.telemetry.append_log import STDOUT
from runtime.admin.token import BadToken, read_token
from runtime.doctor.finding import Finding, ok, problem, warning
from runtime.file_watch import file_system, reports_changes
from runtime.settings import Settings
from runtime.supervisor.host import run_dir
from runtime.supervisor.host.listeners import bind_listeners, describe_reach
from runtime.supervisor.status.state import State
from runtime.text_table import format_size

_FREE_MIN_BYTES, _FREE_LOW_BYTES = 300_000_000, 3_000_000_000
"""An unpacked base takes about 1 GB, and a second one is needed while it is replaced."""


_FREE_WRITE_BYTES = 1_000_000
"""With less, policies, logs and metrics soon cannot be written any more."""


def check_folders(settings: Settings, state: State) -> Iterator[Finding]:
    """Yields a finding for each folder, for the port, and for the token if the admin API listens on a port."""
    yield _dist(settings)
    yield _run(settings, state)
    yield _cache(settings)
    for setting in ("state_path", "scratch_path"):
        yield _written_folder(setting, getattr(settings, setting))
    for setting in ("emf_path", "access_log_path"):
        file = getattr(settings, setting)
        if file is not None and file != STDOUT:
            yield _written_folder(setting, Path(file).parent)
    if "artifacts_path" in settings.model_fields_set and not os.access(settings.artifacts_path, os.R_OK | os.X_OK):
        advice = "create it, give this user access, or choose another folder with artifacts_path"
        yield warning("artifacts_path", f"this user cannot read the folder {settings.artifacts_path}, so models find nothing in it", advice)
    yield _port(settings, state)
    if settings.admin_port is not None or settings.admin_token_path is not None:
        yield _token(settings)
    yield from _writable_by_all(settings)


def _dist(settings: Settings) -> Finding:
    path = settings.dist_path
    if settings.dist_url:
        return ok("dist", f"{path} mirrors {settings.dist_url}")
    if not path.is_dir():
        return problem("dist", f"{path} is not a folder", "create it, or choose another folder with dist_path")
    if not os.access(path, os.R_OK | os.X_OK):
        return problem("dist", f"this user cannot read {path}", f"run `chmod u+rx {path}`, or start Pexdock as its owner")
    if not reports_changes(path):
        advice = f"it is listed every {settings.dist_poll_s:g} s (dist_poll_s); use dist_url or a local folder if that is too slow"
        return warning("dist", f"{path} is on a file system that reports no changes ({file_system(path)})", advice)
    if not os.access(path, os.W_OK):
        return warning("dist", f"this user cannot write to {path}", "`pexdock deploy` does not work; make the folder writable to use it")
    found = path.stat()
    if found.st_mode & stat.S_IWOTH:
        advice = f"everybody who can write there can run code as this user: run `chmod o-w {path}`"
        return warning("dist", f"every user can write to {path}", advice)
    return ok("dist", f"{path}, {sum(1 for _ in path.glob('*.pex'))} pexes")


def _run(settings: Settings, state: State) -> Finding:
    path = settings.run_path
    if state.pid is not None:
        return ok("run directory", f"{path}, used by the supervisor with pid {state.pid}")
    try:
        if run_dir.find_supervisor_pid(path) is None and path.exists():
            run_dir.refuse_shared_dir(path)
    except PexdockError as exc:
        return problem("run directory", exc.detail, f"run `chmod 700 {path}`, or choose another folder with run_path")
    if not os.access(_nearest_existing(path), os.W_OK):
        return problem("run directory", f"{path} cannot be created by this user", "choose a folder of this user with run_path")
    return ok("run directory", f"{path}, no supervisor runs")


def _cache(settings: Settings) -> Finding:
    path = settings.cache_path
    existing = _nearest_existing(path)
    if not os.access(existing, os.W_OK):
        return problem("cache", f"this user cannot write to {path}", "choose another folder with cache_path")
    if path.exists() and (owner := path.stat().st_uid) not in {0, os.geteuid()}:
        advice = f"make user {os.geteuid()} its owner, or choose another folder with cache_path"
        return problem("cache", f"{path} belongs to user {owner}, whose code could run", advice)
    if path.exists() and path.stat().st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH:
        advice = f"everybody who can write there can run code as this user: run `chmod o-w {path}`"
        return warning("cache", f"every user can write to {path}", advice)
    if os.statvfs(existing).f_flag & os.ST_NOEXEC:
        return problem("cache", f"{path} is mounted noexec, so packages in it cannot be loaded", "choose another folder with cache_path")
    free = shutil.disk_usage(existing).free
    text = f"{path}, {format_size(free)} free"
    if free < _FREE_MIN_BYTES:
        return problem("cache", text, "free disk space, since a base is unpacked there")
    return warning("cache", text, "free disk space, since each base takes 1 GB there") if free < _FREE_LOW_BYTES else ok("cache", text)


def _written_folder(setting: str, path: Path) -> Finding:
    existing = _nearest_existing(path)
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        advice = f"give user {os.geteuid()} access to it, or choose another place with {setting}"
        return problem(setting, f"this user cannot write to {existing}", advice)
    free = shutil.disk_usage(existing).free
    text = f"{path}, {format_size(free)} free"
    return problem(setting, text, "free disk space there") if free < _FREE_WRITE_BYTES else ok(setting, text)


def _port(settings: Settings, state: State) -> Finding:
    where = f"{', '.join(settings.host)} port {settings.port}"
    if state.pid is not None:
        return ok("port", f"serving at {state.address}")
    if not settings.port:
        return ok("port", "any free port")
    try:
        with bind_listeners(settings.host, settings.port, 1) as (listeners,):
            reach = ", ".join(dict.fromkeys(map(describe_reach, listeners)))
    except PexdockError as exc:
        return problem("port", exc.detail, "choose another port with port, or stop the process that uses it")
    return ok("port", f"{where} is free; it is {reach}")


def _token(settings: Settings) -> Finding:
    if settings.admin_token_path is None:
        return problem("admin token", "admin_port is set, but admin_token_path is not", "set admin_token_path to a file with a token")
    try:
        read_token(settings.admin_token_path)
    except BadToken as exc:
        text, _, advice = exc.detail.partition("; ")
        return problem("admin token", text, advice or "make the file readable by this user only")
    return ok("admin token", f"{settings.admin_token_path}, readable by this user only")


def _writable_by_all(settings: Settings) -> Iterator[Finding]:
    """Yields a warning for each file or folder that decides what is trusted or served, and to which every user can write."""
    for name in ("state_path", "trusted_keys_path", "trusted_digests_path", "api_keys_path", "tls_key_path", "tls_client_ca_path"):
        path: Path | None = getattr(settings, name)
        if path is not None and path.exists() and path.stat().st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH:
            yield warning(name, f"every user can write to {path}", f"run `chmod o-w {path}`")


def _nearest_existing(path: Path) -> Path:
    """Returns the folder itself, or its nearest parent that exists."""
    return next(folder for folder in (path, *path.parents) if folder.exists())
