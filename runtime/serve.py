"""Puts the supervisor and its admin server together and runs them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import uvloop

from base.ipc.control import MetricsReport
from base.telemetry.emf_writer import report_writer
from runtime.admin.api.app import create_app
from runtime.admin.api.context import AdminContext, UploadTarget
from runtime.admin.server.listeners import AdminServers, open_listeners
from runtime.pex import dist_file
from runtime.pex.cache.store import PexCache
from runtime.pex.trust.policy import load_trust_policy
from runtime.settings import BadSetting, Settings
from runtime.supervisor.host import log_buffer, run_dir
from runtime.supervisor.host.listeners import bind_listeners
from runtime.supervisor.host.log_buffer import LogBuffer
from runtime.supervisor.processes.sandbox import Sandbox, User, scratch_root
from runtime.supervisor.processes.start_limiter import StartLimiter
from runtime.supervisor.releases.managed_release import ReleaseContext
from runtime.supervisor.rollout.policy_store import PolicyStore
from runtime.supervisor.supervisor import Supervisor, log


def serve(settings: Settings, show: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; then nothing is left: no process, no socket file, no run directory.

    Args:
        settings: all settings.
        show: prints what people should read once everything that lay in dist/ is ready or refused.

    Raises:
        PexdockError: it cannot start. Nothing was left behind.
    """
    _check_files(settings)
    with (
        run_dir.lock_run_dir(settings.run_path) as run_path,
        bind_listeners(settings.host, settings.port, settings.front_doors) as clients,
        open_listeners(settings, run_path) as operators,
        report_writer(settings.emf) as report,
        PolicyStore(settings.state_path) as kept,
        log_buffer.capture_logs() as book,
        _confined(settings) as confinement,
    ):
        store = PexCache(settings.cache_path, log.info)
        dist_file.remove_abandoned_files(settings.dist_path)
        try:
            supervisor = Supervisor(_plant(settings, store, run_path, report, confinement), clients, kept, show)
            uvloop.run(supervisor.run(AdminServers(create_app(_admin_context(settings, supervisor, book)), operators)))
        finally:
            store.close()


def _check_files(settings: Settings) -> None:
    """Find what front doors would stumble over, before they are started.

    Raises:
        PexdockError: the files of TLS or of keys cannot be used, or the end would be over before its lag is.
    """
    if settings.pre_stop_delay_s > settings.drain_s:
        raise BadSetting(
            f"pre_stop_delay_s is {settings.pre_stop_delay_s:g}, which is part of drain_s, {settings.drain_s:g}: raise that, or lower this"
        )
    from runtime.http import api_keys, tls  # noqa: PLC0415 - OpenSSL is for those who use it

    if settings.tls is not None:
        tls.make_context(settings.tls)
    if settings.api_keys_path is not None:
        api_keys.read_keys(settings.api_keys_path)


def _admin_context(settings: Settings, supervisor: Supervisor, book: LogBuffer) -> AdminContext:
    drops = UploadTarget(settings.dist_path, settings.dist_url or "", int(settings.pex_max_bytes))
    return AdminContext(supervisor.current_state, supervisor.changes, supervisor.fleet, book, drops, supervisor.drain)


@contextlib.contextmanager
def _confined(settings: Settings) -> Iterator[Sandbox]:
    """What workers are given, until the block ends.

    Raises:
        PexdockError: a setting asks for what cannot be had.
    """
    user = None if settings.worker_user is None else User.look_up(settings.worker_user)
    with scratch_root(settings.scratch_path, shared=user is not None) as scratch:
        yield Sandbox(scratch, tuple(re.split(r"[\s,]+", settings.worker_env)), user, int(settings.worker_max_bytes))


def _plant(
    settings: Settings, store: PexCache, run_path: Path, report: Callable[[MetricsReport], None], confinement: Sandbox
) -> ReleaseContext:
    trust = load_trust_policy(settings.trusted_keys_path, settings.trusted_digests_path)
    return ReleaseContext(store, settings, run_path, report, StartLimiter(settings.start_parallel), confinement, trust)
