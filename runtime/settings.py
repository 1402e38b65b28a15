"""The settings of one Pexdock: their names, bounds, defaults and sources.

Flags override `PEXDOCK_*` variables, which override `pexdock.toml`, which overrides the defaults. An empty variable counts as unset, as
in the start script: an empty path would be the current folder. An unknown name is an error in every source, since a misspelt limit would
silently have no effect.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ByteSize, Field, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from base.errors import PexdockError
from base.ipc.front_door_control import Configure, TlsFiles
from base.ipc.metrics_report import MetricsConfig
from base.telemetry.append_log import STDOUT
from base.telemetry.emf import Emf
from runtime.jobs.settings import JobSettings
from runtime.model_state import ReadinessPolicy
from runtime.setting_paths import (
    AbsolutePath,
    AppendedPath,
    DistPath,
    Hosts,
    RunPath,
    StoreUrl,
    default_cache_path,
    default_dist_path,
    default_run_path,
    default_scratch_path,
    default_state_path,
)

PREFIX = "PEXDOCK_"
CONFIG_VARIABLE = "PEXDOCK_CONFIG"
CONFIG_FILE = "pexdock.toml"

SCRIPT_VARIABLES = frozenset({CONFIG_VARIABLE, "PEXDOCK_PYTHON", "PEXDOCK_ADMIN"})
"""Variables that have the prefix and are not settings. Scripts and commands read them."""

RENAMED = {
    "worker_renew_bytes": "worker_recycle_bytes",
    "worker_renew_requests": "worker_recycle_requests",
    "keep_previous_s": "rollback_window_s",
    "settle_s": "stable_for_s",
    "drain_lag_s": "pre_stop_delay_s",
    "probation_deaths_max": "probation_crashes_max",
    "segments_max_bytes": "shared_memory_max_bytes",
}
"""Names of release 0.1.0 that are no longer accepted, and their successors. Using an old name is an error that names the successor."""


class BadSetting(PexdockError):
    """A setting is unknown or invalid. The message names its source, its value and the remedy."""

    code = "bad_setting"


def _readiness(text: str) -> str:
    ReadinessPolicy.parse(text)
    return text


_LIMITS = Configure()
"""Default limits of front doors, which development servers share."""


class Settings(JobSettings):
    """All settings of one Pexdock. `load` makes it from all sources; the constructor reads neither environment nor file."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix=PREFIX, validate_default=True, allow_inf_nan=False)

    host: Hosts = Field(("127.0.0.1",), description="Address to listen on for clients, or several; :: accepts IPv6 and IPv4.")
    port: int = Field(8080, ge=0, le=65535, description="TCP port to listen on for clients; 0 picks a free one.")
    artifacts_path: AbsolutePath = Field(Path("artifacts"), description="Folder from which models read their artifacts.")
    cache_path: AbsolutePath = Field(default_factory=default_cache_path, description="Folder for unpacked bases and releases.")
    cache_max_bytes: ByteSize = Field(
        ByteSize(4 * 1024**3), ge=0, description="Size of cache_path above which unused bases and releases are deleted."
    )
    dist_url: StoreUrl | None = Field(
        None,
        description="Object store to mirror into dist_path: s3://bucket/prefix, gs://bucket/prefix or az://container/prefix.",
    )
    dist_path: DistPath = Field(
        default_factory=default_dist_path,
        description="Folder to watch for pexes [default: dist, or one in cache_path if dist_url is set].",
    )
    dist_poll_s: float = Field(10, gt=0, le=3600, description="Interval between listings of dist_url, or of a dist_path that is polled.")
    dist_poll: bool = Field(
        False, description="Poll dist_path although its file system reports changes, such as an overlay whose layers others change."
    )
    pex_max_bytes: ByteSize = Field(
        ByteSize(4 * 1024**3), ge=1, description="Largest pex to accept from dist_url or from an upload over HTTP."
    )
    run_path: RunPath = Field(default_factory=default_run_path, description="Folder for sockets and the state file while Pexdock runs.")
    state_path: AbsolutePath = Field(
        default_factory=default_state_path, description="Folder for traffic policies (pins, splits, labels), which outlive a restart."
    )
    readiness: Annotated[str, AfterValidator(_readiness)] = Field(
        "started",
        description="Models that /readyz waits for: started (those in dist_path at the start, once), all, served, any, or names.",
    )
    front_doors: int = Field(1, ge=1, le=64, description="Front door processes that share the port; each uses up to about one core.")
    workers_per_release: int = Field(1, ge=1, le=256, description="Worker processes for each release.")
    worker_env: str = Field(
        "",
        description="Environment variables to pass to workers besides the usual ones: DB_*, iris:SECRET (for iris only), * (all).",
    )
    worker_user: str | None = Field(
        None, min_length=1, description="User, by name or number, that workers run as; Pexdock itself must run as root then."
    )
    worker_max_bytes: ByteSize = Field(ByteSize(0), ge=0, description="Private memory that a worker may allocate; 0 disables the limit.")
    scratch_path: AbsolutePath = Field(default_factory=default_scratch_path, description="Folder for temporary files of workers.")
    worker_recycle_bytes: ByteSize = Field(ByteSize(0), ge=0, description="Recycle a worker above this much private memory; 0 disables it.")
    worker_recycle_requests: int = Field(0, ge=0, description="Recycle a worker after this many requests; 0 disables it.")
    start_timeout_s: float = Field(120, gt=0, le=3600, description="Time limit for a worker to become ready.")
    batch_check: Literal["refuse", "warn", "off"] = Field(
        "refuse", description="What to do with a release whose answer for a row depends on the rows beside it in a batch."
    )
    unresponsive_s: float = Field(
        5, ge=0, le=3600, description="Replace a front door that does not answer, or a stopped process, after this time; 0 disables it."
    )
    start_parallel: int = Field(2, ge=1, le=64, description="Pexes to unpack at a time, and workers to start at a time.")
    start_nice: int = Field(5, ge=0, le=19, description="Extra niceness of a new release's worker until it is ready.")
    # Less than the 10 s after which `docker stop` kills the process.
    drain_s: float = Field(_LIMITS.drain_s, ge=0, le=3600, description="Time limit for requests in flight when Pexdock or a release stops.")
    # 0, because without readiness probes a delay only prolongs every stop. The container image is probed, and sets a longer delay.
    pre_stop_delay_s: float = Field(
        0, ge=0, le=3600, description="Part of drain_s, on SIGTERM or drain, during which Pexdock reports not ready and keeps serving."
    )
    stable_for_s: float = Field(0.5, ge=0, le=60, description="Time that a file in dist_path must stay unchanged before it is read.")
    restart_delay_min_s: float = Field(0.2, gt=0, le=3600, description="Delay before the first restart of a process that has exited.")
    restart_delay_max_s: float = Field(30, gt=0, le=3600, description="Upper limit of the restart delay, which doubles with each crash.")
    rollback_window_s: float = Field(
        300, ge=0, le=86400, description="Time that the previous release stays warm, so that a rollback takes effect at once."
    )
    probation_s: float = Field(
        60, ge=0, le=86400, description="Time after its first request in which a failing release is rolled back; 0 disables it."
    )
    probation_errors_percent: float = Field(
        50, gt=0, le=100, description="Share of failed requests at which a release on probation is rolled back."
    )
    probation_requests_min: int = Field(
        20, ge=1, le=1_000_000, description="Requests to count before probation_errors_percent applies, divided among front doors."
    )
    probation_crashes_max: int = Field(3, ge=1, le=1000, description="Worker crashes at which a release on probation is rolled back.")
    body_max_bytes: ByteSize = Field(ByteSize(_LIMITS.body_max_bytes), ge=1, description="Largest request body.")
    table_max_bytes: ByteSize = Field(
        ByteSize(_LIMITS.table_max_bytes), ge=1, description="Largest Arrow or Parquet body, if above body_max_bytes; may grow to twice it."
    )
    table_file_min_bytes: ByteSize = Field(ByteSize(_LIMITS.table_file_min_bytes), ge=1024**2, description="Size above which it is a file.")
    table_files_max_bytes: ByteSize = Field(
        ByteSize(_LIMITS.table_files_max_bytes), ge=1024**2, description="Such files in scratch_path, in all; others get a 503."
    )
    columns_max: int = Field(
        _LIMITS.columns_max, ge=1, le=10_000, description="Columns and nested fields that an endpoint does not declare; more get a 413."
    )
    # A row is decoded in one call, in which nothing else runs: 250 000 numbers take about 20 ms.
    row_max_values: int = Field(_LIMITS.row_max_values, ge=1, description="Values of one row of JSON, nested ones too; more get a 413.")
    request_max_rows: int = Field(_LIMITS.request_max_rows, ge=1, description="Rows of a request; more get a 413.")
    request_max_groups: int = Field(
        _LIMITS.request_max_groups, ge=1, description="Groups of a request to a grouped endpoint; more get a 413."
    )
    response_max_bytes: ByteSize = Field(
        ByteSize(_LIMITS.response_max_bytes),
        ge=1024,
        description="Largest result of a call, and response; a larger one is a 500.",
    )
    request_timeout_s: float = Field(_LIMITS.request_timeout_s, gt=0, le=86400, description="Time limit of a request.")
    shared_memory_max_bytes: ByteSize = Field(
        ByteSize(_LIMITS.shared_memory_max_bytes),
        ge=8 * 1024**2,
        description="Shared memory for request and reply data, of all front doors together.",
    )
    connections_max: int = Field(_LIMITS.connections_max, ge=1, description="Open client connections; more get a 503.")
    # Longer than the 60 s for which common proxies keep their connections, so that they close first and lose no request.
    keep_alive_s: float = Field(
        _LIMITS.keep_alive_s, gt=0, le=86400, description="Time that a client connection may be idle between two requests."
    )
    head_timeout_s: float = Field(
        _LIMITS.head_timeout_s, gt=0, le=3600, description="Time limit for a request head; for the first, from the start of the connection."
    )
    tls_handshake_timeout_s: float = Field(_LIMITS.tls_handshake_timeout_s, gt=0, le=3600, description="Time limit for a TLS handshake.")
    queue_max_rows: int = Field(_LIMITS.queue_max_rows, ge=1, description="Rows that may wait in the queue of one endpoint.")
    queue_max_bytes: ByteSize = Field(
        ByteSize(_LIMITS.queue_max_bytes), ge=1, description="Bytes of bodies that may wait in the queue of one endpoint."
    )
    queue_max_wait_s: float | None = Field(
        _LIMITS.queue_max_wait_s,
        gt=0,
        le=86400,
        description="Reject a request at once if its expected wait in the queue is longer than this.",
    )
    job_workers: int = Field(1, ge=0, le=256, description="Jobs that run at a time, each on a worker of its own; 0 accepts no jobs.")
    job_worker_nice: int = Field(15, ge=0, le=19, description="Extra niceness of job workers, once they are ready.")
    job_worker_max_bytes: ByteSize = Field(
        ByteSize(0), ge=0, description="Private memory that a job worker may allocate; 0 applies worker_max_bytes."
    )
    job_idle_s: float = Field(60, ge=0, le=86400, description="Time after which a job worker without work is stopped.")
    job_timeout_s: float = Field(86400, gt=0, le=30 * 86400, description="Time limit of one attempt at a job.")
    job_cancel_grace_s: float = Field(
        10, ge=0, le=3600, description="Time after which a worker is replaced whose handler goes on with a cancelled job."
    )
    job_drain_s: float = Field(5, ge=0, le=86400, description="Time limit for running jobs when Pexdock stops; it may exceed drain_s.")
    priorities: bool = Field(_LIMITS.priorities, description="Let clients set the urgency of a request with the Priority header.")
    tls_cert_path: AbsolutePath | None = Field(None, description="PEM file with the server certificate and its chain; enables HTTPS.")
    tls_key_path: AbsolutePath | None = Field(None, description="PEM file with the private key, if tls_cert_path does not contain it.")
    tls_client_ca_path: AbsolutePath | None = Field(
        None, description="PEM file of certificate authorities; clients must present a certificate issued by one of them."
    )
    api_keys_path: AbsolutePath | None = Field(
        None, description="File of lines from `pexdock key`; all requests except probes must carry one of these API keys."
    )
    trusted_keys_path: AbsolutePath | None = Field(
        None,
        description="File of public SSH keys, or folder of .pub files; admit only pexes signed by one, or listed in trusted_digests_path.",
    )
    trusted_digests_path: AbsolutePath | None = Field(
        None, description="File in the format of sha256sum; admit only pexes listed in it, or signed by a key in trusted_keys_path."
    )
    admin_host: Hosts = Field(("127.0.0.1",), description="Address to listen on for the admin API, if admin_port is set; as host.")
    admin_port: int | None = Field(
        None, ge=0, le=65535, description="TCP port of the admin API, which requires a token [default: only a Unix socket in run_path]."
    )
    admin_token_path: AbsolutePath | None = Field(
        None, description="File with the token of the admin API on TCP, readable by its owner only; reloaded when it changes."
    )
    access_log_path: AppendedPath | None = Field(
        None, description="File to append a line of JSON to for each request; - is standard output."
    )
    emf_path: AppendedPath | None = Field(
        None, description="File to append metrics to, in CloudWatch's embedded metric format; - is standard output."
    )
    emf_interval_s: float = Field(10, gt=0, le=3600, description="Interval over which metrics are aggregated into one line.")
    emf_namespace: str = Field("Pexdock", pattern=r"^[0-9A-Za-z .\-_/#:]{1,255}$", description="CloudWatch namespace of the metrics.")
    emf_values_max: int = Field(
        500, ge=1, le=100_000, description="Values to keep of a metric in an interval; of more, a random sample of this size."
    )
    loop_turn_warn_ms: float = Field(
        100,
        ge=0,
        le=60_000,
        description="Log, and report as a metric, what keeps an event loop busy for this many milliseconds or longer; 0 disables it.",
    )
    score_batch_rows: int = Field(32_768, ge=1, le=5_000_000, description="Rows of a call when `pexdock score` scores files.")
    score_batch_max_bytes: ByteSize = Field(
        ByteSize(16 * 1024**2), ge=1, description="Bytes of the rows of such a call; wide rows are sent in smaller calls."
    )
    score_part_rows: int = Field(1_000_000, ge=1, description="Rows after which `pexdock score` begins a new file of results.")
    score_memory_max_bytes: ByteSize = Field(
        ByteSize(1024**3), ge=1, description="Memory of `pexdock score` for rows that were read ahead and results to be written."
    )
    score_refused_max_rows: int = Field(100_000, ge=0, description="Refused rows beyond which `pexdock score` gives up.")
    score_timeout_s: float = Field(3600, gt=0, le=86400, description="Time limit of a call when `pexdock score` scores files.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe level to log.")

    @property
    def paths(self) -> dict[str, Path]:
        """Returns the path of each setting that names a file or a folder."""
        values = {name: getattr(self, name) for name in type(self).model_fields if name.endswith("_path")}
        return {name: Path(value) for name, value in values.items() if value not in {None, STDOUT}}

    @property
    def emf(self) -> Emf | None:
        """Returns the output of metrics; None if they are disabled."""
        if self.emf_path is None:
            return None
        return Emf(self.emf_path, self.emf_interval_s, self.emf_namespace, self.emf_values_max)

    @property
    def tls(self) -> TlsFiles | None:
        """Returns the TLS files of the front doors; None if they serve plain HTTP.

        Raises:
            BadSetting: A key or client authorities are set without a certificate; they would have no effect.
        """
        if self.tls_cert_path is not None:
            key, client_ca = (None if path is None else str(path) for path in (self.tls_key_path, self.tls_client_ca_path))
            return TlsFiles(str(self.tls_cert_path), key, client_ca)
        if self.tls_key_path is not None or self.tls_client_ca_path is not None:
            raise BadSetting(
                "tls_key_path and tls_client_ca_path have no effect without tls_cert_path: set tls_cert_path too, or unset both"
            )
        return None

    @property
    def measuring(self) -> MetricsConfig | None:
        """Returns the configuration of metrics in front doors and workers; None if they are disabled."""
        return None if self.emf is None else self.emf.metrics_config

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Returns the constructor's arguments as the only source. `load` merges the other sources, so that its errors can name them."""
        return (init_settings,)


def load(flags: Mapping[str, object] | None = None, config: Path | None = None) -> Settings:
    """Returns the settings in force.

    Args:
        flags: Values from the command line, by field name; None and empty tuples count as not given.
        config: File named by `--config`. Defaults to the file in `PEXDOCK_CONFIG`, or else to `pexdock.toml` in the current folder, if any.

    Raises:
        BadSetting: A name is unknown or was renamed, or a value is invalid.
    """
    given = {name: value for name, value in (flags or {}).items() if value not in {None, ()}}
    _reject_renamed("--{flag}", given)
    path, from_file = _read_file(config)
    _check_environment()
    layers: list[tuple[str, Mapping[str, Any]]] = [
        ("--{flag}", given),
        (PREFIX + "{NAME}", EnvSettingsSource(Settings, env_ignore_empty=True)()),
        (f"`{{name}}` in {path}", from_file),
    ]
    merged = {name: value for _, layer in reversed(layers) for name, value in layer.items()}
    try:
        return Settings(**merged)
    except ValidationError as exc:
        raise BadSetting(_explain(exc, layers)) from exc


def found_file() -> Path | None:
    """Returns the settings file in `PEXDOCK_CONFIG`, or else the one in the current folder; None if there is none."""
    if variable := os.environ.get(CONFIG_VARIABLE):
        return Path(variable)
    return path if (path := Path(CONFIG_FILE)).is_file() else None


def _read_file(config: Path | None) -> tuple[Path, Mapping[str, Any]]:
    path = config or found_file()
    if path is None:
        return Path(CONFIG_FILE), {}
    if not path.is_file():
        raise BadSetting(f"settings file {path} does not exist: restore it, or correct the path in --config or {CONFIG_VARIABLE}")
    try:
        values = TomlConfigSettingsSource(Settings, path)()
    except OSError as exc:
        advice = f"give user {os.geteuid()} access to it, or name another file with --config or {CONFIG_VARIABLE}"
        raise BadSetting(f"cannot read {path}: {exc.strerror or exc}; {advice}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise BadSetting(f"cannot read {path} as TOML: {exc}") from exc
    _reject_renamed(f"`{{name}}` in {path}", values)
    for key in values:
        if key not in Settings.model_fields:
            raise BadSetting(f"unknown setting `{key}` in {path}{_suggestion(key, Settings.model_fields)}")
    return path, values


def _check_environment() -> None:
    names = [name for name in os.environ if name.upper().startswith(PREFIX)]
    _reject_renamed(PREFIX + "{NAME}", (name.upper().removeprefix(PREFIX).lower() for name in names))
    known = {PREFIX + name.upper() for name in Settings.model_fields} | SCRIPT_VARIABLES
    for name in names:
        if name.upper() not in known:
            raise BadSetting(f"unknown variable {name}{_suggestion(name.upper(), known)}")


def _reject_renamed(place: str, names: Iterable[str]) -> None:
    for name in names:
        if new := RENAMED.get(name):
            raise BadSetting(f"{_placed(place, name)} has been renamed: use {_placed(place.partition(' ')[0], new)}")


def _suggestion(name: str, known: Iterable[str]) -> str:
    """Returns the remedy for an unknown name. Compares names without their prefix, since with it all variables would look alike."""
    bare = {key.removeprefix(PREFIX): key for key in known}
    close = difflib.get_close_matches(name.removeprefix(PREFIX), list(bare), n=1)
    return f": did you mean {bare[close[0]]}?" if close else ": remove it; `pexdock serve --help` lists all settings"


def _explain(exc: ValidationError, layers: list[tuple[str, Mapping[str, Any]]]) -> str:
    """Returns the first error in one line: the source of the value, the value, and the requirement."""
    error = exc.errors()[0]
    name = str(error["loc"][0])
    reason = error["msg"].removeprefix("Value error, ")
    if error["type"].startswith("byte_size"):
        reason = "give a number of bytes, or a number with a unit, such as 64MB or 1GiB"
    for place, layer in layers:
        if name in layer:
            return f"{_placed(place, name)} is {str(layer[name])!r}: {reason[0].lower()}{reason[1:]}"
    return f"the default of {name} is invalid here: {reason}; set --{name.replace('_', '-')}"


def _placed(place: str, name: str) -> str:
    return place.format(name=name, NAME=name.upper(), flag=name.replace("_", "-"))
