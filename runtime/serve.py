"""Composition root: builds the supervisor and its admin server, and runs them."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import stat
from collections.abc import Callable, Iterator

import uvloop

from base.ipc.metrics_report import MetricsReport
from base.telemetry.emf_writer import EmfWriter
from runtime.admin.api.app import create_app
from runtime.admin.api.context import AdminContext, UploadTarget
from runtime.admin.server.listeners import AdminServers, connection_limits, open_listeners
from runtime.jobs.client import JobClient
from runtime.path_errors import explain_os_error
from runtime.pex.cache.store import PexCache
from runtime.pex.locks import make_cache_folder
from runtime.pex.trust.policy import load_trust_policy
from runtime.settings import BadSetting, Settings
from runtime.supervisor.host import log_buffer, run_dir
from runtime.supervisor.host.listeners import bind_listeners
from runtime.supervisor.host.log_buffer import LogBuffer
from runtime.supervisor.host.run_dir import RunDir
from runtime.supervisor.host.spawner import spawner
from runtime.supervisor.processes.sandbox import Sandbox, User, scratch_root
from runtime.supervisor.processes.start_limiter import StartLimiter
from runtime.supervisor.releases.release_context import ReleaseContext
from runtime.supervisor.rollout.policy_store import PolicyStore
from runtime.supervisor.supervisor import Supervisor

log = logging.getLogger(__name__)

_JOB_RUNNER_S = 20.0
"""Time limit for the job runner to reply to the admin API, in seconds, which is less than that of a request of the admin API."""


def serve(settings: Settings, show: Callable[[str], None], load: Callable[[], Settings]) -> None:
    """Serves until a signal or the admin API requests a shutdown. Afterwards no process, socket file or run directory is left.

    Args:
        settings: All settings.
        show: Prints the announcement once every pex that was in dist/ is ready or refused.
        load: Reads the settings again, for SIGHUP.

    Raises:
        PexdockError: Pexdock cannot start. No process or file was left behind.
        OSError: A folder cannot be used; as above.
    """
    _check_settings(settings)
    spawner()  # before files are opened
    _make_cache_folder(settings)
    with (
        run_dir.lock_run_dir(settings.run_path) as own_run_dir,
        bind_listeners(settings.host, settings.port, settings.front_doors) as clients,
        open_listeners(settings, own_run_dir.path) as operators,
        EmfWriter(settings.emf, "emf_path") as metrics,
        PolicyStore(settings.state_path) as policies,
        log_buffer.capture_logs() as logs,
        _make_sandbox(settings) as sandbox,
    ):
        store = PexCache(settings.cache_path, log.info)
        try:
            context = _release_context(settings, store, own_run_dir, metrics.write_report, sandbox)
            supervisor = Supervisor(context, clients, policies, show, _checked(load), metrics.reopen)
            admin = AdminServers(create_app(_admin_context(settings, supervisor, logs)), operators, connection_limits(settings))
            uvloop.run(supervisor.run(admin))
        finally:
            store.close()


def _checked(load: Callable[[], Settings]) -> Callable[[], Settings]:
    """Returns a function that loads settings and checks them as at the start."""

    def load_and_check() -> Settings:
        found = load()
        _check_settings(found)
        return found

    return load_and_check


def _check_settings(settings: Settings) -> None:
    """Checks the files that front doors need, before any process starts.

    Raises:
        PexdockError: The TLS files or API keys cannot be used, or two settings contradict each other.
    """
    if settings.pre_stop_delay_s > settings.drain_s:
        raise BadSetting(
            f"pre_stop_delay_s is {settings.pre_stop_delay_s:g}, but must not exceed drain_s, {settings.drain_s:g}, which includes it: "
            "lower it or raise drain_s"
        )
    if settings.restart_delay_min_s > settings.restart_delay_max_s:
        raise BadSetting(
            f"restart_delay_min_s is {settings.restart_delay_min_s:g}, but must not exceed restart_delay_max_s, "
            f"{settings.restart_delay_max_s:g}: lower it or raise restart_delay_max_s"
        )
    from runtime.http import api_keys, tls  # noqa: PLC0415 - OpenSSL is loaded only if it is used

    if settings.tls is not None:
        tls.make_context(settings.tls)
    if settings.api_keys_path is not None:
        api_keys.read_keys(settings.api_keys_path)


def _make_cache_folder(settings: Settings) -> None:
    """Makes the cache folder. If it cannot be used, logs why: nothing can be unpacked until that is corrected, which needs no restart.

    Raises:
        PermissionError: It belongs to another user.
    """
    try:
        found = make_cache_folder(settings.cache_path).stat()
        if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
            log.warning("every user can write to %s, and so run code as this user: run `chmod o-w %s`", *[settings.cache_path] * 2)
        if not os.access(settings.cache_path, os.W_OK | os.X_OK):
            number = errno.EROFS if os.statvfs(settings.cache_path).f_flag & os.ST_RDONLY else errno.EACCES
            raise OSError(number, os.strerror(number), settings.cache_path)
    except OSError as exc:
        if exc.errno == errno.EPERM:
            raise
        log.error("nothing can be unpacked: %s", explain_os_error(exc, {"cache_path": settings.cache_path}))  # noqa: TRY400


def _admin_context(settings: Settings, supervisor: Supervisor, logs: LogBuffer) -> AdminContext:
    uploads = UploadTarget(settings.dist_path, settings.dist_url or "", int(settings.pex_max_bytes))
    feed, request_shutdown = supervisor.publisher.feed, supervisor.shutdown.request
    jobs = JobClient(str(settings.run_path / run_dir.JOBS), _JOB_RUNNER_S) if settings.job_workers else None
    return AdminContext(supervisor.current_state, feed, supervisor.fleet, logs, uploads, request_shutdown, jobs)


@contextlib.contextmanager
def _make_sandbox(settings: Settings) -> Iterator[Sandbox]:
    """Yields the sandbox of workers.

    Raises:
        PexdockError: A setting requires something that is not possible on this machine.
    """
    user = None if settings.worker_user is None else User.look_up(settings.worker_user)
    with scratch_root(settings.scratch_path, shared=user is not None) as scratch:
        yield Sandbox(scratch, tuple(re.split(r"[\s,]+", settings.worker_env)), user, int(settings.worker_max_bytes))


def _release_context(
    settings: Settings, store: PexCache, own_run_dir: RunDir, report: Callable[[MetricsReport], None], sandbox: Sandbox
) -> ReleaseContext:
    trust = load_trust_policy(settings.trusted_keys_path, settings.trusted_digests_path)
    return ReleaseContext(store, settings, own_run_dir, report, StartLimiter(settings.start_parallel), sandbox, trust)
