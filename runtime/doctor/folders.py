"""The folders and the port that the settings name."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from base.errors import PexdockError
from runtime.admin.token import BadToken, read_token
from runtime.doctor.finding import Finding, ok, problem, warning
from runtime.settings import Settings
from runtime.supervisor.host import run_dir
from runtime.supervisor.host.listeners import bind_listeners
from runtime.supervisor.status.state import State
from runtime.text_table import format_size

_REMOTE = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs", "fuse.sshfs", "fuse.s3fs", "fuse.gcsfuse", "virtiofs"})
_FREE_LEAST_BYTES, _FREE_BYTES = 300_000_000, 3_000_000_000
"""An unpacked base has 1 GB; one more is needed while it is replaced."""


def check_folders(settings: Settings, state: State) -> Iterator[Finding]:
    """Each of them, the port, and the token."""
    yield _dist(settings)
    yield _run(settings, state)
    yield _cache(settings)
    yield _port(settings, state)
    if settings.admin_port is not None or settings.admin_token_path is not None:
        yield _token(settings)


def _dist(settings: Settings) -> Finding:
    path = settings.dist_path
    if settings.dist_url:
        return ok("dist", f"{path} follows {settings.dist_url}")
    if not path.is_dir():
        return problem("dist", f"{path} is no folder", "make it, or name another with dist_path")
    if not os.access(path, os.R_OK | os.X_OK):
        return problem("dist", f"{path} cannot be read by this user", f"`chmod u+rx {path}`, or start Pexdock as its owner")
    kind = _file_system(path)
    if kind in _REMOTE:
        advice = "what other machines write there is not announced to this one: use dist_url, or copy pexes to a local folder"
        return warning("dist", f"{path} lies on {kind}", advice)
    if not os.access(path, os.W_OK):
        return warning("dist", f"{path} cannot be written to by this user", "nothing can be deployed by `pexdock deploy` from here")
    found = path.stat()
    if found.st_mode & stat.S_IWOTH:
        return warning("dist", f"{path} can be written to by everybody", f"who may drop a file may run code here: `chmod o-w {path}`")
    return ok("dist", f"{path}, {sum(1 for _ in path.glob('*.pex'))} pexes")


def _run(settings: Settings, state: State) -> Finding:
    path = settings.run_path
    if state.pid is not None:
        return ok("run directory", f"{path}, supervisor {state.pid} runs")
    try:
        if run_dir.find_supervisor_pid(path) is None and path.exists():
            run_dir.refuse_shared_dir(path)
    except PexdockError as exc:
        return problem("run directory", exc.detail, f"`chmod 700 {path}`, or name another with run_path")
    if not os.access(_there(path), os.W_OK):
        return problem("run directory", f"{path} cannot be made", "name a folder of this user with run_path")
    return ok("run directory", f"{path}, no supervisor runs")


def _cache(settings: Settings) -> Finding:
    path = settings.cache_path
    there = _there(path)
    if not os.access(there, os.W_OK):
        return problem("cache", f"{path} cannot be written to", "name another folder with cache_path")
    if os.statvfs(there).f_flag & os.ST_NOEXEC:
        return problem("cache", f"{path} is mounted noexec, so that packages in it cannot be loaded", "name another folder with cache_path")
    free = shutil.disk_usage(there).free
    text = f"{path}, {format_size(free)} free"
    if free < _FREE_LEAST_BYTES:
        return problem("cache", text, "make room: a base is unpacked there")
    return warning("cache", text, "make room: each base takes 1 GB there") if free < _FREE_BYTES else ok("cache", text)


def _port(settings: Settings, state: State) -> Finding:
    where = f"{settings.host} port {settings.port}"
    if state.pid is not None:
        return ok("port", f"served at {state.address}")
    if not settings.port:
        return ok("port", "any that is free")
    try:
        with bind_listeners(settings.host, settings.port, 1):
            pass
    except PexdockError as exc:
        return problem("port", exc.detail, "choose another with port, or end who has it")
    open_to_all = socket.inet_aton(settings.host) == b"\0\0\0\0" if settings.host.count(".") == 3 else settings.host == "::"
    return ok("port", f"{where} is free" + ("; every network can reach it" if open_to_all else ""))


def _token(settings: Settings) -> Finding:
    if settings.admin_token_path is None:
        return problem("admin token", "admin_port is set, and no token", "name its file with admin_token_path")
    try:
        read_token(settings.admin_token_path)
    except BadToken as exc:
        text, _, advice = exc.detail.partition("; ")
        return problem("admin token", text, advice or "make the file one of this user alone")
    return ok("admin token", f"{settings.admin_token_path}, of this user alone")


def _there(path: Path) -> Path:
    """The folder itself, or what of its parents there is."""
    return next(each for each in (path, *path.parents) if each.exists())


def _file_system(path: Path) -> str:
    """Of the mount that holds it; the last line that fits is the one on top."""
    found, best = "", -1
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split(" ")
        mount = Path(where.replace("\\040", " "))
        if path.resolve().is_relative_to(mount) and len(mount.parts) >= best:
            found, best = kind, len(mount.parts)
    return found
