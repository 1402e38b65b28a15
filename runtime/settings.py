"""The settings of one Pexdock: their names, bounds and defaults, and the places they come from.

Flags stand above `PEXDOCK_*` variables, those above `pexdock.toml`, that above the defaults. A key that nobody knows is an error in
every one of them, since a misspelt limit that is silently ignored is no limit.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import MinLen
from pydantic import AfterValidator, ByteSize, Field, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from base.errors import PexdockError
from base.ipc.control import MetricsConfig, TlsFiles
from base.telemetry.append_log import STDOUT
from base.telemetry.emf import Emf
from runtime.supervisor.rollout.probation import Rules

PREFIX = "PEXDOCK_"
CONFIG_VARIABLE = "PEXDOCK_CONFIG"
CONFIG_FILE = "pexdock.toml"

SCRIPT_VARIABLES = frozenset({CONFIG_VARIABLE, "PEXDOCK_PYTHON", "PEXDOCK_ADMIN"})
"""Names that carry the prefix but are no settings: the scripts beside Pexdock read them."""

RUN_PATH_MAX_BYTES = 90
"""A Unix socket's path has 107 bytes at most (`sun_path` less its NUL); the rest is left to the names inside the run directory."""


_STORE = re.compile(r"(s3a?|gs|az|azure|adl|abfss?):/{1,2}[^/]")
"""The schemes of object stores. A path has lost one of its slashes."""


class BadSetting(PexdockError):
    """A setting is unknown or out of its bounds. The message names where it stands and the way out."""

    code = "bad_setting"


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


def _short_enough(path: Path) -> Path:
    size = len(os.fsencode(path))
    if size > RUN_PATH_MAX_BYTES:
        raise ValueError(f"{path} has {size} bytes, {RUN_PATH_MAX_BYTES} at most, since Unix sockets live in it; name a shorter folder")
    return path


def _store_url(url: str) -> str:
    if not _STORE.match(url) or "@" in url:
        raise ValueError("no URL of an object store: s3://bucket/prefix, gs://bucket/prefix or az://container/prefix, without credentials")
    return url


def _cache_path() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "pexdock"


def _dist_path(data: dict[str, Any]) -> Path:
    """`dist`, or a folder for what is fetched from this URL."""
    url = data.get("dist_url")
    return Path("dist") if url is None else data.get("cache_path", _cache_path()) / "dists" / hashlib.sha256(url.encode()).hexdigest()[:12]


def _folder(path: Path) -> Path:
    if "://" in str(path) or _STORE.match(f"{path}/"):
        raise ValueError("it is a folder; an object store that it is to follow is named by dist_url")
    return _absolute(path)


def _name_of_dist(data: dict[str, Any]) -> str:
    return hashlib.sha256(os.fsencode(data.get("dist_path", Path("dist")).resolve())).hexdigest()[:12]


def _state_path(data: dict[str, Any]) -> Path:
    """A folder of this user for this dist/, the same on every start, so that what was said of a dist/ is found again."""
    return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state") / "pexdock" / _name_of_dist(data)


def _run_path(data: dict[str, Any]) -> Path:
    """A folder of this user for this dist/, the same on every start, so that two supervisors of one dist/ meet."""
    name = _name_of_dist(data)
    if runtime_dir := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime_dir) / f"pexdock-{name}"
    path = Path(tempfile.gettempdir()) / f"pexdock-{os.getuid()}-{name}"
    return path if len(os.fsencode(path)) <= RUN_PATH_MAX_BYTES else Path("/tmp") / path.name  # noqa: S108 - taken with mode 0700 and checked


def _scratch_path(data: dict[str, Any]) -> Path:
    """One for each run directory, since its lock is the scratch folder's as well."""
    name = hashlib.sha256(os.fsencode(data.get("run_path", Path()))).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"pexdock-scratch-{os.getuid()}-{name}"


def _appended(path: str) -> str:
    return path if path == STDOUT else str(_absolute(Path(path)))


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
AppendedPath = Annotated[str, MinLen(1), AfterValidator(_appended)]


class Settings(BaseSettings):
    """All settings. Made by `load`; made directly it takes what it is given and asks neither environment nor file."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix=PREFIX, validate_default=True)

    host: str = Field("127.0.0.1", min_length=1, description="Address that the front door listens on.")
    port: int = Field(8080, ge=0, le=65535, description="TCP port that the front door listens on; 0 takes any free one.")
    artifacts_path: AbsolutePath = Field(Path("artifacts"), description="Folder below which models read their artifacts.")
    cache_path: AbsolutePath = Field(default_factory=_cache_path, description="Folder for unpacked bases and releases.")
    cache_max_bytes: ByteSize = Field(
        ByteSize(4 * 1024**3), ge=0, description="Unpacked bases that are kept though nobody uses them now, with those in use."
    )
    dist_url: Annotated[str, AfterValidator(_store_url)] | None = Field(
        None, description="Object store whose pexes dist_path follows: s3://bucket/prefix, gs://bucket/prefix or az://container/prefix."
    )
    dist_path: Annotated[Path, AfterValidator(_folder)] = Field(
        default_factory=_dist_path, description="Folder that is watched for pexes [default: dist, or one in the cache for a dist_url]."
    )
    dist_poll_s: float = Field(10, gt=0, le=3600, description="Seconds from one look at dist_url to the next.")
    pex_max_bytes: ByteSize = Field(
        ByteSize(4 * 1024**3), ge=1, description="Size of the largest pex that is fetched from dist_url, or dropped over HTTP."
    )
    run_path: Annotated[AbsolutePath, AfterValidator(_short_enough)] = Field(
        default_factory=_run_path, description="Folder for sockets and the state file while Pexdock runs."
    )
    state_path: AbsolutePath = Field(default_factory=_state_path, description="Folder for what operators say of models' requests.")
    front_doors: int = Field(1, ge=1, le=64, description="Front doors that share the port; each keeps about one core busy.")
    workers_per_release: int = Field(1, ge=1, le=256, description="Workers that run each release.")
    worker_env: str = Field(
        "", description="Variables that workers inherit beside the usual ones, as in DB_*,iris:SECRET (for iris alone); * is all."
    )
    worker_user: str | None = Field(
        None, min_length=1, description="User that workers run as, by name or number; Pexdock must be root then."
    )
    worker_max_bytes: ByteSize = Field(ByteSize(0), ge=0, description="Memory that a worker may ask for; 0 is any.")
    scratch_path: AbsolutePath = Field(default_factory=_scratch_path, description="Folder for the temporary files of workers.")
    worker_renew_bytes: ByteSize = Field(
        ByteSize(0), ge=0, description="Memory of its own at which a worker is replaced, by one that is ready first; 0 is any."
    )
    worker_renew_requests: int = Field(
        0, ge=0, description="Requests after which a worker is replaced, by one that is ready first; 0 is any number."
    )
    start_timeout_s: float = Field(120, gt=0, le=3600, description="Seconds that a worker may take from its start to ready.")
    start_parallel: int = Field(
        2, ge=1, le=64, description="Pexes that are verified and unpacked at the same time, and workers that are started."
    )
    start_nice: int = Field(5, ge=0, le=19, description="Niceness that a worker of a drop has more than others until it is ready.")
    # Below the 10 s after which `docker stop` kills.
    drain_s: float = Field(8, ge=0, le=3600, description="Seconds that requests in flight may take when Pexdock or a release ends.")
    # 0: where nobody asks for readiness, a lag is a pause before every end. The image, whose readiness is asked for, sets more.
    drain_lag_s: float = Field(
        0, ge=0, le=3600, description="Of drain_s, seconds of not being ready in which requests are still taken; only at SIGTERM and drain."
    )
    settle_s: float = Field(0.5, ge=0, le=60, description="Seconds that a file in dist/ must stay unchanged before it is taken.")
    restart_delay_min_s: float = Field(0.2, gt=0, le=3600, description="Seconds before the first restart of a process that died.")
    restart_delay_max_s: float = Field(30, gt=0, le=3600, description="Seconds that the delay between restarts grows to.")
    keep_previous_s: float = Field(
        300, ge=0, le=86400, description="Seconds that the release that served before stays up, so that a roll-back takes no start."
    )
    probation_s: float = Field(60, ge=0, le=86400, description="Seconds after its first request in which a release may be taken back.")
    probation_errors_percent: float = Field(50, gt=0, le=100, description="Failed requests that have a release on probation taken back ...")
    probation_requests_min: int = Field(20, ge=1, le=1_000_000, description="... of at least this many requests.")
    probation_deaths_max: int = Field(3, ge=1, le=1000, description="Workers that die until a release on probation is taken back.")
    body_max_bytes: ByteSize = Field(ByteSize(32 * 1024**2), ge=1, description="Size of the largest request body.")
    request_timeout_s: float = Field(60, gt=0, le=86400, description="Seconds that a request may take.")
    segments_max_bytes: ByteSize = Field(
        ByteSize(1024**3), ge=8 * 1024**2, description="Shared memory that front doors may hold for all workers together."
    )
    connections_max: int = Field(10_000, ge=1, description="Connections of clients that may be open; more are turned away.")
    queue_max_rows: int = Field(100_000, ge=1, description="Rows that may wait for the workers of one endpoint.")
    queue_max_bytes: ByteSize = Field(
        ByteSize(256 * 1024**2), ge=1, description="Bytes of bodies that may wait for the workers of one endpoint."
    )
    queue_max_wait_s: float | None = Field(
        None, gt=0, le=86400, description="Seconds that a request may wait for a worker; what would wait longer is refused at once."
    )
    priorities: bool = Field(False, description="Let clients say by the header Priority which of their requests go first.")
    tls_cert_path: AbsolutePath | None = Field(
        None, description="PEM file of the front door's certificate and its chain; it then speaks HTTPS."
    )
    tls_key_path: AbsolutePath | None = Field(None, description="PEM file of its private key, where that is not in tls_cert_path.")
    tls_client_ca_path: AbsolutePath | None = Field(
        None, description="PEM file of authorities; clients must then show a certificate of one of them."
    )
    api_keys_path: AbsolutePath | None = Field(
        None, description="File of lines that `pexdock key` prints; requests other than probes must then show one of these keys."
    )
    trusted_keys_path: AbsolutePath | None = Field(
        None, description="File of public SSH keys, or folder of .pub files, whose signatures admit a pex; see docs/operations.md."
    )
    trusted_digests_path: AbsolutePath | None = Field(
        None, description="File of lines as sha256sum prints them; what is listed is admitted. With neither of the two every pex is."
    )
    admin_host: str = Field("127.0.0.1", min_length=1, description="Address of the admin side, where admin_port is set.")
    admin_port: int | None = Field(
        None, ge=0, le=65535, description="TCP port of the admin side, which needs a token; without it a Unix socket in run_path is all."
    )
    admin_token_path: AbsolutePath | None = Field(
        None, description="File with the token of the admin side on TCP, for its user alone; read again when it changes."
    )
    access_log_path: AppendedPath | None = Field(
        None, description="File that a line of JSON is appended to for each request; - is standard output."
    )
    emf_path: AppendedPath | None = Field(
        None, description="File that metrics are appended to, in CloudWatch's embedded metric format; - is standard output."
    )
    emf_interval_s: float = Field(10, gt=0, le=3600, description="Seconds from a metric to the line that tells it, with all since.")
    emf_namespace: str = Field("Pexdock", pattern=r"^[0-9A-Za-z .\-_/#:]{1,255}$", description="Namespace of the metrics in CloudWatch.")
    emf_values_max: int = Field(
        500, ge=1, le=100_000, description="Values of one metric that are kept an interval; of more, a sample of so many."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least important messages to log.")

    @property
    def emf(self) -> Emf | None:
        """Where metrics go, and how; None where nobody wants them."""
        if self.emf_path is None:
            return None
        return Emf(self.emf_path, self.emf_interval_s, self.emf_namespace, self.emf_values_max)

    @property
    def probation(self) -> Rules:
        """When a release is taken back."""
        return Rules(self.probation_s, self.probation_errors_percent, self.probation_requests_min, self.probation_deaths_max)

    @property
    def tls(self) -> TlsFiles | None:
        """How front doors speak TLS; None where they speak plain HTTP.

        Raises:
            BadSetting: a key or authorities without a certificate, which would be ignored in silence.
        """
        if self.tls_cert_path is not None:
            key, client_ca = (None if path is None else str(path) for path in (self.tls_key_path, self.tls_client_ca_path))
            return TlsFiles(str(self.tls_cert_path), key, client_ca)
        if self.tls_key_path is not None or self.tls_client_ca_path is not None:
            raise BadSetting("tls_key_path and tls_client_ca_path mean nothing without tls_cert_path: set that, too, or none of them")
        return None

    @property
    def measuring(self) -> MetricsConfig | None:
        """How the processes that measure do it; None where nobody wants measures."""
        return None if self.emf is None else self.emf.measuring

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """`load` merges the sources itself, since its errors name the source of each value."""
        return (init_settings,)


def load(flags: Mapping[str, object] | None = None, config: Path | None = None) -> Settings:
    """The settings in force.

    Args:
        flags: what was given on the command line, by field name; None values count as not given.
        config: the file named by `--config`; without it `PEXDOCK_CONFIG`, else `pexdock.toml` in the current folder, if there is one.

    Raises:
        BadSetting: on the first key that is unknown or value that does not fit.
    """
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    path, from_file = _read_file(config)
    _check_environment()
    layers: list[tuple[str, Mapping[str, Any]]] = [
        ("--{flag}", given),
        (PREFIX + "{NAME}", EnvSettingsSource(Settings)()),
        (f"`{{name}}` in {path}", from_file),
    ]
    merged = {name: value for _, layer in reversed(layers) for name, value in layer.items()}
    try:
        return Settings(**merged)
    except ValidationError as exc:
        raise BadSetting(_explain(exc, layers)) from exc


def _read_file(config: Path | None) -> tuple[Path, Mapping[str, Any]]:
    named = config or (Path(variable) if (variable := os.environ.get(CONFIG_VARIABLE)) else None)
    path = named or Path(CONFIG_FILE)
    if not path.is_file():
        if named is not None:
            raise BadSetting(f"there is no settings file {path}: name another one with --config or {CONFIG_VARIABLE}")
        return path, {}
    try:
        values = TomlConfigSettingsSource(Settings, path)()
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise BadSetting(f"{path} cannot be read as TOML: {exc}") from exc
    for key in values:
        if key not in Settings.model_fields:
            raise BadSetting(f"unknown setting `{key}` in {path}{_did_you_mean(key, Settings.model_fields)}")
    return path, values


def _check_environment() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields} | SCRIPT_VARIABLES
    for name in os.environ:
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            raise BadSetting(f"unknown variable {name}{_did_you_mean(name.upper(), known)}")


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    """The way out of an unknown name. The prefix is no part of the likeness, else every variable would be like every other."""
    bare = {key.removeprefix(PREFIX): key for key in known}
    close = difflib.get_close_matches(name.removeprefix(PREFIX), list(bare), n=1)
    return f": did you mean {bare[close[0]]}?" if close else ": remove it; `pexdock serve --help` lists all settings"


def _explain(exc: ValidationError, layers: list[tuple[str, Mapping[str, Any]]]) -> str:
    """The first error in one line: where the value stands, what it is, what it must be."""
    error = exc.errors()[0]
    name = str(error["loc"][0])
    reason = error["msg"].removeprefix("Value error, ")
    for where, layer in layers:
        if name in layer:
            place = where.format(name=name, NAME=name.upper(), flag=name.replace("_", "-"))
            return f"{place} is {str(layer[name])!r}: {reason[0].lower()}{reason[1:]}"
    return f"the default of {name} does not fit here: {reason}; set --{name.replace('_', '-')}"
