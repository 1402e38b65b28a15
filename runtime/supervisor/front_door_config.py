"""The configuration that front doors receive, made from the settings."""

from __future__ import annotations

from base.ipc.front_door_control import Configure, JobAccess
from runtime.settings import Settings
from runtime.supervisor.host.run_dir import JOBS
from runtime.supervisor.processes.recycling import requests_sent_interval


def front_door_config(settings: Settings) -> Configure:
    """Returns the limits of all front doors together."""
    return Configure(
        body_max_bytes=int(settings.body_max_bytes),
        table_max_bytes=int(settings.table_max_bytes),
        table_file_min_bytes=int(settings.table_file_min_bytes),
        table_files_max_bytes=int(settings.table_files_max_bytes),
        table_files_path=str(settings.scratch_path),
        request_timeout_s=settings.request_timeout_s,
        shared_memory_max_bytes=int(settings.shared_memory_max_bytes),
        connections_max=settings.connections_max,
        keep_alive_s=settings.keep_alive_s,
        head_timeout_s=settings.head_timeout_s,
        tls_handshake_timeout_s=settings.tls_handshake_timeout_s,
        queue_max_rows=settings.queue_max_rows,
        queue_max_bytes=int(settings.queue_max_bytes),
        queue_max_wait_s=settings.queue_max_wait_s,
        priorities=settings.priorities,
        columns_max=settings.columns_max,
        row_max_values=settings.row_max_values,
        request_max_rows=settings.request_max_rows,
        request_max_groups=settings.request_max_groups,
        response_max_bytes=int(settings.response_max_bytes),
        drain_s=settings.drain_s,
        metrics=settings.measuring,
        access_log=settings.access_log_path,
        tls=settings.tls,
        api_keys_path=None if settings.api_keys_path is None else str(settings.api_keys_path),
        loop_turn_warn_ms=settings.loop_turn_warn_ms,
        requests_sent_interval=requests_sent_interval(settings.worker_recycle_requests),
        jobs=_job_access(settings) if settings.job_workers else None,
    )


def _job_access(settings: Settings) -> JobAccess:
    return JobAccess(
        str(settings.run_path / JOBS),
        str(settings.state_path),
        int(settings.job_body_max_bytes),
        settings.job_streams_max,
        settings.job_webhook_hosts,
        int(settings.job_disk_min_free_bytes),
    )
