"""The settings of stored jobs and of their webhooks. `runtime.settings` has all others, and loads them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, ValidationInfo
from pydantic_settings import BaseSettings, NoDecode

from base.ipc.front_door_control import JobAccess
from runtime.jobs.store.interface import JobLimits
from runtime.jobs.webhook_hosts import WebhookConfig, WebhookHosts
from runtime.setting_paths import AbsolutePath, split_hosts

_LIMITS, _ACCESS = JobLimits(), JobAccess("", "")


def _webhook_hosts(hosts: tuple[str, ...]) -> tuple[str, ...]:
    WebhookHosts(hosts)
    return hosts


def _webhook_secret(path: Path | None, info: ValidationInfo) -> Path | None:
    if path is None and info.data.get("job_webhook_hosts"):
        raise ValueError("webhooks must be signed: set it, or remove job_webhook_hosts")
    return path


class JobSettings(BaseSettings):
    """Limits of stored jobs, and who may be told of them."""

    job_attempts: int = Field(
        _LIMITS.attempts,
        ge=1,
        le=100,
        description="Attempts at a job. One ends with the job runner or the machine; only a generator's with its worker.",
    )
    job_body_max_bytes: ByteSize = Field(
        ByteSize(_ACCESS.body_max_bytes), ge=1, description="Largest body of a job, in place of body_max_bytes."
    )
    job_streams_max: int = Field(
        _ACCESS.streams_max,
        ge=1,
        description="Event streams of jobs that are sent at a time; more get a 503. Likewise results, and clients that wait.",
    )
    job_queue_max: int = Field(_LIMITS.queue_max, ge=1, le=1_000_000, description="Jobs that may wait; more get a 503.")
    job_queue_client_max: int = Field(
        _LIMITS.queue_client_max, ge=1, le=1_000_000, description="Jobs of one client (API key) that may wait; more get a 503."
    )
    job_queue_max_age_s: float = Field(_LIMITS.queue_max_age_s, gt=0, description="Time after which a job that still waits expires.")
    job_bodies_max_bytes: ByteSize = Field(
        ByteSize(_LIMITS.bodies_max_bytes), ge=1, description="Bodies of all jobs that wait or run; more get a 503."
    )
    job_results_max_bytes: ByteSize = Field(
        ByteSize(_LIMITS.results_max_bytes), ge=1, description="Results of all jobs; beyond it, the oldest expire."
    )
    job_result_max_age_s: float = Field(_LIMITS.result_max_age_s, gt=0, description="Time after which the result of a job expires.")
    job_record_max_age_s: float = Field(_LIMITS.record_max_age_s, gt=0, description="Time after which a job that has ended is forgotten.")
    job_disk_min_free_bytes: ByteSize = Field(
        ByteSize(_LIMITS.disk_min_free_bytes), ge=0, description="Free space on the disk of state_path below which jobs get a 503."
    )
    job_webhook_hosts: Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_hosts), AfterValidator(_webhook_hosts)] = Field(
        (),
        description="Host that webhooks may call, or several: NAME or NAME:PORT, and networks in which their private addresses are.",
    )
    job_webhook_secret_path: Annotated[AbsolutePath | None, AfterValidator(_webhook_secret)] = Field(
        None, description="File with the secret that signs webhooks, or a line for each of several; read for each call."
    )
    job_webhook_interval_ms: float = Field(500, ge=0, le=3_600_000, description="Shortest time between two webhook calls of one job.")
    job_webhook_timeout_s: float = Field(10, gt=0, le=3600, description="Time limit of a webhook call.")
    job_webhook_calls_max: int = Field(8, ge=1, le=1000, description="Webhook calls of one host at a time, for each client.")
    job_webhook_jobs_max: int = Field(
        1000, ge=1, le=100_000, description="Jobs whose webhooks are told at a time; of more, only the end is told, later."
    )
    job_webhook_attempts: int = Field(8, ge=1, le=100, description="Calls after which a webhook that fails is given up.")

    @property
    def job_webhooks(self) -> WebhookConfig:
        """Returns the settings of webhooks."""
        return WebhookConfig(
            self.job_webhook_hosts,
            str(self.job_webhook_secret_path or ""),
            self.job_webhook_interval_ms,
            self.job_webhook_timeout_s,
            self.job_webhook_attempts,
            self.job_webhook_calls_max,
            self.job_webhook_jobs_max,
        )

    @property
    def job_limits(self) -> JobLimits:
        """Returns the limits of the store of jobs."""
        return JobLimits(
            attempts=self.job_attempts,
            queue_max=self.job_queue_max,
            queue_client_max=self.job_queue_client_max,
            queue_max_age_s=self.job_queue_max_age_s,
            bodies_max_bytes=int(self.job_bodies_max_bytes),
            results_max_bytes=int(self.job_results_max_bytes),
            result_max_age_s=self.job_result_max_age_s,
            record_max_age_s=self.job_record_max_age_s,
            disk_min_free_bytes=int(self.job_disk_min_free_bytes),
        )
