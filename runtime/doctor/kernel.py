"""Checks the operating system: descriptors, segments, sockets, inotify, the clock."""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import resource
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from runtime.doctor.finding import Finding, ok, problem, warning
from runtime.http.listener_drain import SO_BINDTOIFINDEX
from runtime.settings import Settings

_CLIENTS = 2000
"""Connections that a front door should be able to accept; each takes a descriptor."""

_CHILD_DESCRIPTORS = 12
_CLOCK_TOLERANCE_S = 60.0
_YEAR_MIN = 2025


def check_kernel(settings: Settings) -> Iterator[Finding]:
    """Yields findings about descriptors, the required features of the kernel, inotify and the clock."""
    yield _descriptors(settings)
    missing = [name for name, works in _FEATURES.items() if not _has(works)]
    found = f"Linux {platform.release()}: {', '.join(_FEATURES)}"
    if missing:
        yield problem(
            "kernel", f"Linux {platform.release()} lacks {', '.join(missing)}", "use Linux 5.7 or later, and no sandbox that blocks these"
        )
    else:
        yield ok("kernel", found)
    yield _inotify(settings)
    yield _clock(settings)


def _descriptors(settings: Settings) -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    children = settings.front_doors + settings.workers_per_release * len(list(settings.dist_path.glob("*.pex")))
    least, wanted = 64 + _CHILD_DESCRIPTORS * children, _CLIENTS + 64 + _CHILD_DESCRIPTORS * children
    text = f"limit of {_format_limit(soft)} open files (hard limit {_format_limit(hard)})"
    advice = f"run `ulimit -n {wanted}` before the start, or set LimitNOFILE= in its unit or --ulimit nofile= for its container"
    if soft != resource.RLIM_INFINITY and soft < least:
        return problem("descriptors", f"{text}, but at least {least} are needed", advice)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        return warning("descriptors", f"{text}, which is too low for {_CLIENTS} connections", advice)
    return ok("descriptors", text)


def _format_limit(count: int) -> str:
    return "unlimited" if count == resource.RLIM_INFINITY else str(count)


def _sealed_segment() -> None:
    fd = os.memfd_create("doctor", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, 4096)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    finally:
        os.close(fd)


def _pidfd() -> None:
    os.close(os.pidfd_open(os.getpid()))


def _channel() -> None:
    for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET):
        end.close()


def _shared_port() -> None:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def _refusal() -> None:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX, 1)
        sock.getsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX)


_FEATURES: dict[str, Callable[[], None]] = {
    "memfd_create with seals": _sealed_segment,
    "pidfd_open": _pidfd,
    "SOCK_SEQPACKET": _channel,
    "SO_REUSEPORT": _shared_port,
    "SO_BINDTOIFINDEX": _refusal,
}


def _has(feature: Callable[[], None]) -> bool:
    try:
        feature()
    except (OSError, AttributeError):
        return False
    return True


def _inotify(settings: Settings) -> Finding:
    from asyncinotify import Inotify, Mask  # noqa: PLC0415 - imports an event loop

    watched = settings.dist_path if settings.dist_path.is_dir() else Path("/")
    limits = " ".join(f"{name}={_sysctl(name)}" for name in ("max_user_instances", "max_user_watches"))
    try:
        with Inotify() as inotify:
            inotify.add_watch(watched, Mask.CREATE)
    except OSError as exc:
        advice = "run `sysctl fs.inotify.max_user_instances=512`, or stop the processes that use all of them"
        return problem("inotify", f"cannot watch dist/: {exc.strerror} ({limits})", advice)
    return ok("inotify", limits)


def _sysctl(name: str) -> str:
    with contextlib.suppress(OSError):
        return (Path("/proc/sys/fs/inotify") / name).read_text().strip()
    return "?"


def _clock(settings: Settings) -> Finding:
    now = datetime.now(UTC)
    before = time.monotonic()
    if now.year < _YEAR_MIN or time.monotonic() < before:
        return problem("clock", f"the clock shows {now:%Y-%m-%d %H:%M} UTC", "set the clock: schedules and certificates depend on it")
    ahead = [path.name for path in settings.dist_path.glob("*.pex") if _mtime(path) > now.timestamp() + _CLOCK_TOLERANCE_S]
    if ahead:
        advice = "set the clock of this machine, or of the one where the files were written; they are served nevertheless"
        return warning("clock", f"files with a modification time in the future: {', '.join(sorted(ahead))}", advice)
    return ok("clock", f"{now:%Y-%m-%d %H:%M:%S} UTC")


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # gone
        return 0.0
