"""CacheConfig: what the author of an endpoint says about its models."""

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
    """What `load_model` gets, as a name: `load_as=FetchAs.Bytes` is `load_as="bytes"`."""

    Uri = "path"
    Bytes = "bytes"


class CacheConfig(BaseModel):
    """How an endpoint comes by its models. Durations are a `timedelta`, or a number of seconds.

    Without a `client` models are made from data: `load_model` gets the parameters of the request instead of an artifact, as the spec's
    instance or, without a spec, as a `dict[str, str]`; so `CacheConfig(load_model=train, spec=Region)` trains one model for each region
    that is asked for, and a refresh trains it anew.

    Attributes:
        client: finds an artifact for parameters: `FsClient`, `ObjectStoreClient`, `MlflowClient`, or any object with the members of
            `base.artifacts.clients.protocol.Client`. Left out, models are made from data.
        load_model: makes a model, on a loader thread. Gets one argument, see `load_as`. Models of other parameters are served meanwhile.
        load_as: "path", the artifact's absolute path as a `str`, or "bytes", the content of its file.
        spec: a Pydantic model that the parameters of a request must satisfy; a request that does not is refused before anything is loaded.
            Its validated values are the key of a cache entry, and what the client is asked with: `7` and `007` are one `int`.
        max_size: models kept at once; the one unused for longest goes first.
        max_bytes: bytes of models kept at once, as `size_of` or else the size of their artifacts says; the one unused for longest goes
            first. A single one that is larger is kept alone. None means no bound.
        size_of: the bytes that a model takes.
        pre_fetch_all: load what the client lists when the worker starts, up to `max_size`, newest first. False, since a model is loaded
            when it is first asked for, and a store may hold many more than will be.
        schedule: every entry is refreshed at these times. A refresh loads beside the old model, which serves until the new one is there,
            and for longer if the load fails: it is then tried again after a growing pause. An artifact that is unchanged is not loaded.
        interval: every entry is refreshed so long after its last load. Not together with `schedule`.
        jitter: each refresh is later by a random time up to this one, so that workers do not ask a store at the same moment.
        ttl: entries that were not used for so long are dropped.
        load_timeout_s: a request for a model whose first load takes longer is answered with Unavailable, while the load goes on; so are
            those that come later, until it has ended. None means that it waits for as long as the request may.
        unload: is called with a model that left the cache, once nobody uses it: evicted, refreshed, or when the worker ends. On a loader
            thread. What it raises is logged. The cache then lets go of the model.
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
    load_timeout_s: float | None = Field(default=None, gt=0)
    unload: Callable[[Any], object] | None = None

    _reader: SpecValidator | None = PrivateAttr(default=None)

    @field_validator("client")
    @classmethod
    def _is_a_client(cls, client: Client) -> Client:
        missing = [name for name in _CLIENT_MEMBERS if not hasattr(client, name)]
        if missing:
            raise ValueError(f"a client needs {', '.join(_CLIENT_MEMBERS)}; {type(client).__name__} lacks {', '.join(missing)}")
        return client

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.schedule is not None and self.interval is not None:
            raise ValueError("give a schedule or an interval, not both")
        if self.jitter and self.schedule is None and self.interval is None:
            raise ValueError("a jitter needs a schedule or an interval")
        if self.from_data and self.fetches_bytes:
            raise ValueError("load_as='bytes' needs a client: without one there is no file to read")
        if self.spec is not None:
            try:
                self._reader = SpecValidator(self.spec)
            except Declaration as exc:
                raise ValueError(exc.detail) from exc
            self._check_latest(self._reader)
        return self

    def _check_latest(self, reader: SpecValidator) -> None:
        if reader.latest is None:
            return
        if self.from_data:
            raise ValueError("a LatestKey needs a client: without one there is no latest artifact")
        if reader.latest[1].manifest is not None and not hasattr(self.client, "manifest"):
            raise ValueError(f"a LatestKey with a manifest needs a client with the member manifest; {type(self.client).__name__} lacks it")

    @property
    def from_data(self) -> bool:
        """Whether models are made without artifacts."""
        return isinstance(self.client, NoStore)

    @property
    def fetches_bytes(self) -> bool:
        """Whether `load_model` gets the content of a file."""
        return self.load_as in {"bytes", FetchAs.Bytes}

    @property
    def spec_validator(self) -> SpecValidator | None:
        """Applies the spec, where there is one."""
        return self._reader

    def validate_parameters(self, parameters: Mapping[str, str]) -> BaseModel | None:
        """The instance of `spec` for the parameters of a request; None without a spec, which admits all.

        Raises:
            Misfit: with a cell for each parameter that does not fit.
        """
        return None if self._reader is None else self._reader.validate(parameters)

    def canonical_parameters(self, parameters: Mapping[str, str]) -> dict[str, str]:
        """The parameters as the client is asked with them, see `Reader.canonical`.

        Raises:
            Misfit: as in `validated`.
        """
        return dict(parameters) if self._reader is None else self._reader.canonical_parameters(parameters)
