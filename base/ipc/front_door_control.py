"""Control messages between a supervisor and its front doors and job runner. Pure.

All are started from the same base, so the messages need no version.
"""

from __future__ import annotations

from typing import Any

import msgspec

from base.ipc.metrics_report import MetricsConfig
from base.ipc.release_spec import ReleaseSpec


class FailureLimit(msgspec.Struct, frozen=True):
    """The limit of failed requests at which a release is rolled back.

    Attributes:
        requests_min: Number of answered requests below which it is not reached.
        errors_percent: Share of the answered requests that have failed.
    """

    requests_min: int
    errors_percent: float

    def is_reached(self, answered: int, failed: int) -> bool:
        """Returns whether so many failures among so many answers reach it."""
        return failed > 0 and answered >= self.requests_min and 100 * failed >= self.errors_percent * answered

    def divided(self, count: int) -> FailureLimit:
        """Returns the limit of each of `count` front doors."""
        return FailureLimit(-(-self.requests_min // count), self.errors_percent)


class Route(msgspec.Struct, frozen=True):
    """A release in the routing table.

    Attributes:
        release: The release.
        sockets: Absolute paths of the sockets of its workers; empty while no worker is ready.
        release_id: Distinguishes the release from every other, even from one of the same name and version with other content.
        failure_limit: Limit of failed requests on probation. The front door keeps to it, and reports outcomes (`OutcomeReport`); or None.
        failure: Why no job worker can start, after several attempts; empty otherwise. `failed_starts` counts all such attempts.
    """

    release: ReleaseSpec
    sockets: list[str]
    release_id: str = ""
    failure_limit: FailureLimit | None = None
    failure: str = ""
    failed_starts: int = 0


class MirrorSpec(msgspec.Struct, frozen=True):
    """A share of the requests is also sent to the release `release_id`. Its answers are compared and dropped."""

    release_id: str
    percent: float


class SplitSpec(msgspec.Struct, frozen=True):
    """The split of one model's requests among its routes. A model with one route and no mirror needs no split.

    Attributes:
        weights: Release id → weight, 1 or more. A release without a weight gets only mirrored requests, requests that ask for it, and
            requests that it gets as `fallback`.
        by: Keeps a client with one release: "" (nothing does), "header:NAME", "parameter:NAME" or "column:NAME" (its value in row 0).
        mirror: None if nothing is mirrored.
        labels: Label → release id, for requests that ask for a label.
        fallback: Id of the release that answers while no release with a weight can answer; "" for none. Requests cannot ask for it.
    """

    weights: dict[str, int]
    by: str = ""
    mirror: MirrorSpec | None = None
    labels: dict[str, str] = {}
    fallback: str = ""

    @property
    def opt_in_only(self) -> set[str]:
        """Returns the ids of releases that get only mirrored requests, and requests that ask for them."""
        mirrored = set() if self.mirror is None else {self.mirror.release_id}
        return (mirrored | set(self.labels.values())) - self.weights.keys() - {self.fallback}

    def hides(self, release_id: str) -> bool:
        """Returns True if a release is only the fallback, so that requests may not ask for it."""
        return release_id == self.fallback and release_id not in self.weights and release_id not in self.labels.values()


class ReservedPath(msgspec.Struct, frozen=True):
    """A path of a model that cannot answer now. Its requests get a 503, so that no other model answers them.

    Attributes:
        path: The path of an endpoint of the model.
        model: Name of the model.
        state: State of the model, for people: it completes "MODEL is ...".
        retry_after_s: Time after which clients may try again, in seconds.
    """

    path: str
    model: str
    state: str
    retry_after_s: int = 1


class RoutingTable(msgspec.Struct, frozen=True, tag="routing_table", tag_field="type"):
    """Supervisor → front door: the whole routing table, which replaces the previous one.

    Attributes:
        generation: Number of the table.
        routes: All releases that get requests.
        startup_complete: False until each release that was in dist/ at the start is ready or refused. Readiness waits for it.
        splits: Model name → split, for models that have several routes.
        reserved: Paths of models without a route.
        paths_known: False while a model may have paths that are in neither `routes` nor `reserved`.
        standby: IDs of further releases that run once the job runner demands workers of them.
    """

    generation: int
    routes: list[Route]
    startup_complete: bool
    splits: dict[str, SplitSpec] = {}
    reserved: list[ReservedPath] = []
    paths_known: bool = True
    standby: list[str] = []


class ModelStatus(msgspec.Struct, frozen=True):
    """The state of one model, and its reason for clients."""

    state: str
    reason: str = ""


class ModelStates(msgspec.Struct, frozen=True, tag="model_states", tag_field="type"):
    """Supervisor → front door, before the first table and after every change: the states of all models that are known.

    Attributes:
        models: Normalized name → its state.
        required: Models that must be ready for the machine to be ready.
        one_required: At least one model must be ready for the machine to be ready.
    """

    models: dict[str, ModelStatus]
    required: list[str] = []
    one_required: bool = False


class TlsFiles(msgspec.Struct, frozen=True):
    """PEM files, which each front door reads, and reads again when they change.

    Attributes:
        cert_path: The certificate and its intermediate certificates.
        key_path: The private key; None if it is in the same file.
        client_ca_path: Authorities, one of which must have issued a client's certificate; None if clients need no certificate.
    """

    cert_path: str
    key_path: str | None = None
    client_ca_path: str | None = None


class JobAccess(msgspec.Struct, frozen=True):
    """The place where a front door stores and finds jobs, and their limits. The defaults are also those of the settings `job_*`.

    Attributes:
        socket, state_path: Path of the job runner's socket, and the folder with the folder of jobs.
        body_max_bytes: Size limit of a job's body; a larger one is answered with 413.
        streams_max: Event streams that are sent at a time; more are answered with 503. Likewise results, and clients that wait.
        webhook_hosts, disk_min_free_bytes: The settings `job_*` of these names.
    """

    socket: str
    state_path: str
    body_max_bytes: int = 256 * 1024**2
    streams_max: int = 256
    webhook_hosts: tuple[str, ...] = ()
    disk_min_free_bytes: int = 0


class JobRunnerConfig(msgspec.Struct, frozen=True):
    """The settings of the job runner.

    Attributes:
        state_path: The folder with the folder of jobs.
        limits: Limits of the store, by the names of `runtime.jobs.store.interface.JobLimits`.
        workers: Limit of job workers, and so of jobs that run at a time.
        timeout_s, cancel_grace_s, drain_s: The settings `job_*` of these names, in seconds.
        webhooks: Settings of webhooks, by the names of `runtime.jobs.webhook_hosts.WebhookConfig`.
        worker_owner: Numbers of the user and the group of job workers; None for those of this process.
    """

    state_path: str
    limits: dict[str, int | float]
    workers: int
    timeout_s: float
    cancel_grace_s: float
    drain_s: float
    webhooks: dict[str, Any]
    worker_owner: tuple[int, int] | None = None


class Configure(msgspec.Struct, frozen=True, tag="configure", tag_field="type"):
    """Supervisor → front door, before the first table: its limits. Again after a reload: new limits of bodies, connections and queues.

    The defaults are also those of the settings of `pexdock`.

    Attributes:
        body_max_bytes: Size limit of a request body; a larger one is answered with 413.
        table_max_bytes: The same for an Arrow or Parquet body, if it is larger. Such a body may expand to twice that.
        table_file_min_bytes: Size from which Arrow and Parquet bodies are kept in files.
        table_files_max_bytes: Limit of all such files of the front door; beyond it, requests are answered with 503.
        table_files_path: Folder of these files; empty for the system's folder of temporary files.
        request_timeout_s: Time limit of a request in seconds; a request that takes longer is answered with 504.
        shared_memory_max_bytes: Limit of all shared memory of the front door; beyond it, requests are answered with 503.
        connections_max: Limit of client connections; more are rejected with a 503.
        keep_alive_s: Time in seconds for which a connection may be idle between two requests.
        head_timeout_s: Time limit in seconds for the head of a request; for the first, from the start of the connection.
        tls_handshake_timeout_s: Time limit of a TLS handshake in seconds.
        queue_max_rows: Rows that may wait for one endpoint; beyond it, requests are answered with 503.
        queue_max_bytes: Bytes of bodies that may wait for one endpoint; beyond it, requests are answered with 503.
        queue_max_wait_s: A request that would wait longer for a worker is answered with 503; None for no limit except the request's own.
        priorities: Clients may order their requests by the header `Priority`.
        columns_max: Columns of a request that its endpoint does not declare; more are answered with 413.
        row_max_values: Values of a row of JSON; more are answered with 413.
        request_max_rows: Rows of a request; more are answered with 413.
        request_max_groups: Groups of the rows of a request, at an endpoint that groups them; more are answered with 413.
        response_max_bytes: Bytes of the results of one call; more are answered with 500.
        drain_s: Time limit for accepted requests in seconds after Drain.
        metrics: None for no metrics.
        access_log: Path of a file that gets a line for each request; "-" is the standard output of the supervisor.
        tls: None for plain HTTP.
        api_keys_path: File with API keys, one of which each request must send; None if requests need no key.
        requests_sent_interval: Number of requests to a worker after which the front door reports them (`RequestsSent`); 0 for no reports.
        loop_turn_warn_ms: Time of the event loop's turns from which they are logged and reported, in milliseconds; 0 for none.
        jobs: None if there is no job runner, so that no request becomes a job.
        job_runner: Settings of the job runner; None for a front door.
    """

    body_max_bytes: int = 32 * 1024**2
    table_max_bytes: int = 256 * 1024**2
    table_file_min_bytes: int = 32 * 1024**2
    table_files_max_bytes: int = 8 * 1024**3
    table_files_path: str = ""
    request_timeout_s: float = 60.0
    shared_memory_max_bytes: int = 1024**3
    connections_max: int = 10_000
    keep_alive_s: float = 75.0
    head_timeout_s: float = 5.0
    tls_handshake_timeout_s: float = 10.0
    queue_max_rows: int = 100_000
    queue_max_bytes: int = 256 * 1024**2
    queue_max_wait_s: float | None = None
    priorities: bool = False
    columns_max: int = 1000
    row_max_values: int = 250_000
    request_max_rows: int = 5_000_000
    request_max_groups: int = 100_000
    response_max_bytes: int = 512 * 1024**2
    drain_s: float = 8.0
    metrics: MetricsConfig | None = None
    access_log: str | None = None
    tls: TlsFiles | None = None
    api_keys_path: str | None = None
    requests_sent_interval: int = 0
    loop_turn_warn_ms: float = 0.0
    jobs: JobAccess | None = None
    job_runner: JobRunnerConfig | None = None


class Listening(msgspec.Struct, frozen=True, tag="listening", tag_field="type"):
    """Front door → supervisor: it accepts connections."""


class TableApplied(msgspec.Struct, frozen=True, tag="table_applied", tag_field="type"):
    """Front door → supervisor: this generation of the table is in force, and its workers are connected or were refused."""

    generation: int


class RoutesDrained(msgspec.Struct, frozen=True, tag="routes_drained", tag_field="type"):
    """Front door → supervisor: no request still waits for a worker that is not in this generation of the table."""

    generation: int


class OutcomeReport(msgspec.Struct, frozen=True, tag="outcome_report", tag_field="type"):
    """Front door → supervisor: the outcomes of requests to one release since the last report.

    Attributes:
        release_id: The release.
        answered: Number of requests that were answered, failures included.
        failed: Number of those that failed because of the release: its handler or result failed, its worker exited, or it answered late.
        limit_reached: The front door has reached its limit of failures, and sends no request to the release until another table says so.
    """

    release_id: str
    answered: int
    failed: int
    limit_reached: bool = False


class MirrorReport(msgspec.Struct, frozen=True, tag="mirror_report", tag_field="type"):
    """Front door → supervisor: the comparison of mirrored requests since the last report.

    Attributes:
        model: The model whose requests are mirrored.
        release_id: The release that gets the mirrored requests.
        requests: Number of requests that both releases answered.
        equal: Number of those with the same statuses and values.
        failed: Mirrored requests that failed because of the release while the client got its answer.
        skipped: Requests that were not mirrored because the release was overloaded.
        deviation_max: The largest difference between two numbers at the same position.
        primary_ms: Sum over `requests` of the time that the client's answer took.
        mirror_ms: Sum over `requests` of the time that the mirrored answer took.
    """

    model: str
    release_id: str
    requests: int
    equal: int
    failed: int
    skipped: int
    deviation_max: float
    primary_ms: float
    mirror_ms: float


class WorkerUnhealthy(msgspec.Struct, frozen=True, tag="worker_unhealthy", tag_field="type"):
    """Front door → supervisor: the worker at `socket` is unhealthy: it does not answer, or the channel to it had to be closed."""

    socket: str
    reason: str


class RequestsSent(msgspec.Struct, frozen=True, tag="requests_sent", tag_field="type"):
    """Front door → supervisor: number of requests sent to the worker at `socket` since the last report."""

    socket: str
    requests: int


class ModelsRequested(msgspec.Struct, frozen=True, tag="models_requested", tag_field="type"):
    """Front door → supervisor: requests for these models were refused because the models were not up."""

    models: list[str]


class JobDemand(msgspec.Struct, frozen=True, tag="job_demand", tag_field="type"):
    """Job runner → supervisor: the job workers that it needs. Replaces the previous message of this kind.

    Attributes:
        workers: Release id → number of job workers, at most `JobRunnerConfig.workers` in all.
        busy: Sockets of the job workers that have a job, which are not stopped.
    """

    workers: dict[str, int]
    busy: list[str] = []


class ReportNotReady(msgspec.Struct, frozen=True, tag="report_not_ready", tag_field="type"):
    """Supervisor → front door: report not ready and keep serving, so that load balancers stop sending. A job runner begins no more jobs."""


class AcceptAlso(msgspec.Struct, frozen=True, tag="accept_also", tag_field="type"):
    """Supervisor → front door: accept the clients of these listening sockets, too, since their own front doors do not at the moment.

    Replaces the previous message of this kind. The front door has inherited all of them.
    """

    listen_fds: list[int]


class Ping(msgspec.Struct, frozen=True, tag="ping", tag_field="type"):
    """Supervisor → front door: answer with Pong, to show that the event loop runs."""


class Pong(msgspec.Struct, frozen=True, tag="pong", tag_field="type"):
    """Front door → supervisor: the response to Ping."""


FrontDoorMessage = (
    RoutingTable
    | ModelStates
    | Configure
    | Listening
    | TableApplied
    | RoutesDrained
    | OutcomeReport
    | MirrorReport
    | WorkerUnhealthy
    | RequestsSent
    | ModelsRequested
    | JobDemand
    | ReportNotReady
    | AcceptAlso
    | Ping
    | Pong
)
