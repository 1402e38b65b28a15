"""CacheConfig: how an endpoint finds, loads, caches and refreshes its models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from enum import Enum
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from base.artifacts.clients.protocol import Client, NoStore
from base.artifacts.cron import Cron
from base.artifacts.spec import SpecValidator
from base.errors import Declaration

_CLIENT_MEMBERS = ("parameters", "locate", "list")
_ZERO = timedelta()


class FetchAs(Enum):
    """The argument of `load_model`: `load_as=FetchAs.Bytes` is `load_as="bytes"`."""

    Uri = "path"
    Bytes = "bytes"


class CacheConfig(BaseModel):
    """Defines how an endpoint finds, loads, caches and refreshes its models. Durations are a `timedelta`, or a number of seconds.

    Without a `client`, models are made from data: `load_model` gets the parameters of the request instead of an artifact, as the spec's
    instance or, without a spec, as a `dict[str, str]`. For example, `CacheConfig(load_model=train, spec=Region)` trains one model for each
    region that is requested, and a refresh trains it anew.

    Attributes:
        client: Finds the artifact for parameters: `FsClient`, `ObjectStoreClient`, `MlflowClient`, or any object with the members of
            `base.artifacts.clients.protocol.Client`. Without a client, models are made from data.
        load_model: Makes a model from one argument (see `load_as`) on a loader thread; models of other parameters are served meanwhile.
        load_as: "path" for the artifact's absolute path as a `str`, or "bytes" for the content of its file.
        spec: A Pydantic model that validates the parameters of a request; a request that it rejects is refused before anything is loaded.
            Its validated values are the key of a cache entry, and the client gets them: `7` and `007` are one `int`.
        max_size: Maximum number of models in memory; the least recently used is evicted first.
        max_bytes: Maximum bytes of models in memory, by `size_of` or else by the size of their artifacts; the least recently used is
            evicted first. A single larger model is kept. None means no bound.
        size_of: Returns the bytes that a model takes.
        pre_fetch_all: Loads the artifacts that the client lists when the worker starts, up to `max_size`, newest first. The default is
            False: a model is loaded at its first request, and a store may hold many more models than are ever requested.
        schedule: Refreshes every entry at these times. A refresh loads beside the old model, which serves until the new one is ready; if
            the load fails, the old model keeps serving and the load is retried after a growing delay. An unchanged artifact is not loaded.
        interval: Refreshes every entry this long after its last load. Cannot be combined with `schedule`.
        jitter: Delays each refresh by a random time up to this one, so that workers do not ask a store at the same moment.
        ttl: Evicts entries that were not used for this long.
        evict_missing: Evicts a model whose artifact is gone when it is refreshed. By default it keeps serving.
        load_timeout_s: Answers a request with Unavailable if the first load of its model takes longer; the load continues, and later
            requests get the same answer until it ends. None means that a request waits until its own deadline.
        unload: Called with a model that left the cache, after its last use: when it is evicted or replaced by a refresh, and at the
            worker's shutdown. Runs on a loader thread; its exceptions are logged. The cache then drops the model.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", frozen=True)

    client: Any = Field(default_factory=NoStore)
    load_model: Callable[..., Any]
    load_as: Literal["path", "bytes"] | FetchAs = "path"
    spec: type[BaseModel] | None = None
    max_size: int = Field(default=128, ge=1)
    max_bytes: int | None = Field(default=None, ge=1)
    size_of: Callable[[Any], int] | None = None
    pre_fetch_all: bool = False
    schedule: Cron | None = None
    interval: timedelta | None = Field(default=None, gt=_ZERO)
    jitter: timedelta = Field(default=_ZERO, ge=_ZERO)
    ttl: timedelta | None = Field(default=None, gt=_ZERO)
    evict_missing: bool = False
    load_timeout_s: float | None = Field(default=None, gt=0)
    unload: Callable[[Any], object] | None = None

    _validator: SpecValidator | None = PrivateAttr(default=None)

    @field_validator("client")
    @classmethod
    def _is_a_client(cls, client: Client) -> Client:
        missing = [name for name in _CLIENT_MEMBERS if not hasattr(client, name)]
        if missing:
            raise ValueError(f"a client must have {', '.join(_CLIENT_MEMBERS)}; {type(client).__name__} lacks {', '.join(missing)}")
        return client

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.schedule is not None and self.interval is not None:
            raise ValueError("schedule and interval exclude each other; give one of them")
        if self.jitter and self.schedule is None and self.interval is None:
            raise ValueError("jitter needs a schedule or an interval; give one of them")
        if self.from_data and self.fetches_bytes:
            raise ValueError("load_as='bytes' needs a client; without one there is no file to read")
        if self.spec is not None:
            try:
                self._validator = SpecValidator(self.spec)
            except Declaration as exc:
                raise ValueError(exc.detail) from exc
            self._check_latest(self._validator)
        return self

    def _check_latest(self, validator: SpecValidator) -> None:
        if validator.latest is None:
            return
        if self.from_data:
            raise ValueError("a LatestKey needs a client; without one there is no latest artifact")
        if validator.latest[1].manifest is not None and not hasattr(self.client, "manifest"):
            raise ValueError(f"a LatestKey with a manifest needs a client with a method manifest; {type(self.client).__name__} has none")

    @property
    def from_data(self) -> bool:
        """Returns True if models are made without artifacts."""
        return isinstance(self.client, NoStore)

    @property
    def fetches_bytes(self) -> bool:
        """Returns True if `load_model` gets the content of a file."""
        return self.load_as in {"bytes", FetchAs.Bytes}

    @property
    def spec_validator(self) -> SpecValidator | None:
        """Returns the validator of the spec; None without a spec."""
        return self._validator

    def validate_parameters(self, parameters: Mapping[str, str]) -> BaseModel | None:
        """Returns the instance of `spec` for the parameters of a request; None without a spec, which accepts all parameters.

        Raises:
            Misfit: A parameter does not fit; the error has a cell for each of them.
        """
        return None if self._validator is None else self._validator.validate(parameters)

    def canonical_parameters(self, parameters: Mapping[str, str]) -> dict[str, str]:
        """Returns the parameters that the client gets; see `SpecValidator.canonical_parameters`.

        Raises:
            Misfit: As in `validate_parameters`.
        """
        return dict(parameters) if self._validator is None else self._validator.canonical_parameters(parameters)
