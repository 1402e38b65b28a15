"""Endpoints: `@endpoint` makes one of a handler, and checks the declaration while it does: `import base.service as svc`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, ParamSpec, TypeVar, get_args, get_origin

import polars as pl
from pydantic import BaseModel

from base.artifacts.config import CacheConfig
from base.endpoint.describe import about, serialized
from base.endpoint.handler_kind import HandlerKind
from base.endpoint.injection import AvailableInputs, CallPlan, plan_call
from base.endpoint.path import parse_path, path_shape
from base.errors import Declaration
from base.ipc.control import EndpointSpec, Example
from base.schema.model import Schema, evaluate_annotation

P = ParamSpec("P")
R = TypeVar("R")

_ITERATORS = frozenset({Iterator, Iterable, Generator, AsyncIterator, AsyncIterable, AsyncGenerator})

BATCH_MAX_ROWS = 1_000_000
BATCH_MAX_DELAY_MS = 60_000


@dataclass(frozen=True)
class BatchPolicy:
    """How requests are gathered for a handler.

    Attributes:
        max_rows: rows in a batch of several requests; a single larger request travels alone.
        max_delay_ms: how long a request may wait for others. An upper bound, never a forced wait.
    """

    max_rows: int
    max_delay_ms: int


@dataclass(frozen=True, eq=False)
class Endpoint(Generic[P, R]):
    """A handler with its path, schemas and batch policy. Calling it calls the handler, so a unit test needs no server.

    Attributes:
        name: the handler's name.
        path: without a trailing slash.
        parameters: the names in the path, in its order.
        handler: a function, an async one, or a generator of either kind, whose parts are streamed.
        input_schema: what rows must look like; None where the frame is inferred from each request.
        output_schema: what the result must look like; None where any rows will do.
        cache_config: how it comes by its models; None where it needs none.
        batch: how requests are gathered.
        plan: what the handler is called with.
        flavour: which kind of function it is.
        raw: it takes bodies as they are.
        unexpected: "ignore" or "reject" fields that the input schema does not have.
        headers: those that contexts have, in lower case.
        warm_up: its handler is called once before a worker is ready.
        retry: a request whose worker died may be computed once more.
        timeout_ms: that a request has where its client does not say; None for what the operator gives.
    """

    name: str
    path: str
    parameters: tuple[str, ...]
    handler: Callable[P, R]
    input_schema: type[Schema] | None
    output_schema: type[Schema] | None
    cache_config: CacheConfig | None
    batch: BatchPolicy
    call_plan: CallPlan
    handler_kind: HandlerKind
    raw: bool = False
    unexpected: str = "ignore"
    headers: tuple[str, ...] = ()
    warm_up: bool = True
    retry: bool = True
    timeout_ms: int | None = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Calls the handler, and nothing else."""
        return self.handler(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Endpoint {self.name} {self.path}>"

    @property
    def path_shape(self) -> str:
        """The path without the names in it. Two endpoints of one shape would answer the same requests."""
        return path_shape(self.path)

    @property
    def unbatched(self) -> bool:
        """Whether the handler is called with one request at a time."""
        return self.call_plan.unbatched or self.raw or self.handler_kind.streams

    def spec(self) -> EndpointSpec:
        """What a front door needs to know. Looks for an artifact to show in the example, so it may read the store."""
        return EndpointSpec(
            name=self.name,
            path=self.path,
            parameters=list(self.parameters),
            input_schema=serialized(self.input_schema),
            output_schema=serialized(self.output_schema),
            batch_max_rows=self.batch.max_rows,
            batch_max_delay_ms=self.batch.max_delay_ms,
            example=self.example(),
            unexpected=self.unexpected,
            unbatched=self.unbatched,
            raw=self.raw,
            streams=self.handler_kind.streams,
            headers=list(self.headers),
            checks_parameters=_spec(self.cache_config) is not None or self.call_plan.spec is not None,
            retry=self.retry,
            docs=about(self),
            timeout_ms=self.timeout_ms,
        )

    def example(self) -> Example | None:
        """A request that this endpoint would answer now; None without an input schema or without an artifact for its parameters."""
        parameters = self._example_parameters()
        if self.input_schema is None or parameters is None:
            return None
        return Example(parameters, [self.input_schema.example_row()])

    def _example_parameters(self) -> dict[str, str] | None:
        """Of the newest artifact that has them all."""
        if not self.parameters:
            return {}
        return next(self.known_parameters(), None)

    def known_parameters(self) -> Iterator[dict[str, str]]:
        """Those for which there is an artifact, newest first. Reads the store."""
        if self.cache_config is not None:
            for found in self.cache_config.client.list():
                if set(self.parameters) <= set(found):
                    yield {name: found[name] for name in self.parameters}


def endpoint(  # noqa: PLR0913, PLR0917 - what an author may say of an endpoint, each by its name
    path: str,
    cache_config: CacheConfig | None = None,
    batch_max_delay_ms: int = 10,
    batch_max_size: int = 64,
    validate_artifact_params: bool = False,
    unexpected: Literal["ignore", "reject"] = "ignore",
    raw: bool = False,
    headers: Sequence[str] = (),
    warm_up: bool = True,
    retry: bool = True,
    timeout_ms: int | None = None,
) -> Callable[[Callable[P, R]], Endpoint[P, R]]:
    """Makes an `Endpoint` of a handler.

    Args:
        path: begins with "/"; `{name}` takes one whole segment. A trailing slash makes no difference.
        cache_config: how the endpoint comes by its models. The handler then takes `(model, frame)`, else `(frame)`; what else it may take,
            and in which order, is told in `base.endpoint.injection`.
        batch_max_delay_ms: see `BatchPolicy`.
        batch_max_size: rows; see `BatchPolicy`.
        validate_artifact_params: says that `cache_config` must have a `spec`. A spec that is there is always applied.
        unexpected: what becomes of fields that the input schema does not have: they are not read, or their request is a 422.
        raw: the handler takes the request as it came (`svc.Request`) instead of a frame, and makes its own answer.
        headers: those that `svc.Context` shall have; all others stay in the front door.
        warm_up: whether the handler may be called with an example before a worker is ready. False for one that has effects outside.
        retry: a request whose worker died before it was answered is computed once more, by another. False is for handlers that must not
            be called twice with the same rows: then it is a 503.
        timeout_ms: that a request may take where its client does not say (`X-Request-Timeout-Ms`); never more than the operator's
            `request_timeout_s`, which is what it has without.

    Raises:
        Declaration: the declaration cannot work; the message says what to change.
    """
    local = sys._getframe(1).f_locals  # noqa: SLF001 - annotations may name schemas of the function that the handler is written in

    def make(handler: Callable[P, R]) -> Endpoint[P, R]:
        name = getattr(handler, "__name__", type(handler).__name__)
        normal, parameters = parse_path(path)
        _check_cache(name, parameters, cache_config, validate_artifact_params)
        annotations = _annotations(name, handler, local)
        flavour = HandlerKind.detect(handler)
        injected = plan_call(handler, AvailableInputs(name, parameters, cache_config is not None, _spec(cache_config), raw), annotations)
        output = _schema(name, _result(flavour, annotations("return")))
        if raw and output is not None:
            raise Declaration(f"endpoint {name}: with raw=True it makes its own answer; drop the schema {output.__name__} of its result")
        return Endpoint(
            name=name,
            path=normal,
            parameters=parameters,
            handler=handler,
            input_schema=None if injected.frame is None else _schema(name, annotations(injected.frame)),
            output_schema=output,
            cache_config=cache_config,
            batch=_policy(name, batch_max_size, batch_max_delay_ms),
            call_plan=injected,
            handler_kind=flavour,
            raw=raw,
            unexpected=_unexpected(name, unexpected),
            headers=tuple(each.lower() for each in headers),
            warm_up=warm_up,
            retry=retry,
            timeout_ms=_timeout(name, timeout_ms),
        )

    return make


def _check_cache(name: str, parameters: tuple[str, ...], config: CacheConfig | None, spec_needed: bool) -> None:
    if spec_needed and (config is None or config.spec is None):
        raise Declaration(f"endpoint {name}: validate_artifact_params needs a spec: give one in its cache_config")
    if config is None:
        return
    missing = [each for each in config.client.parameters if each not in parameters]
    if missing:
        raise Declaration(
            f"endpoint {name}: its artifacts need {missing}, which its path does not have; put {{{missing[0]}}} into the path "
            "or take it out of the path template"
        )


def _unexpected(name: str, policy: str) -> str:
    if policy not in {"ignore", "reject"}:
        raise Declaration(f"endpoint {name}: unexpected is {policy!r}; say 'ignore' or 'reject'")
    return policy


def _policy(name: str, rows: int, delay_ms: int) -> BatchPolicy:
    if not 1 <= rows <= BATCH_MAX_ROWS:
        raise Declaration(f"endpoint {name}: batch_max_size is {rows}; give a number of rows from 1 to {BATCH_MAX_ROWS}")
    if not 0 <= delay_ms <= BATCH_MAX_DELAY_MS:
        raise Declaration(f"endpoint {name}: batch_max_delay_ms is {delay_ms}; give milliseconds from 0 to {BATCH_MAX_DELAY_MS}")
    return BatchPolicy(rows, delay_ms)


def _timeout(name: str, timeout_ms: int | None) -> int | None:
    if timeout_ms is not None and timeout_ms < 1:
        raise Declaration(f"endpoint {name}: timeout_ms is {timeout_ms}; give milliseconds from 1 on, or None for what the operator gives")
    return timeout_ms


def _spec(config: CacheConfig | None) -> type[BaseModel] | None:
    return None if config is None else config.spec


def _annotations(name: str, handler: Callable[..., object], local: Mapping[str, object]) -> Callable[[str], Any]:
    """Evaluates the annotation of a parameter, or of the result by the name "return"; None where there is none."""
    closure = inspect.getclosurevars(handler).nonlocals if inspect.isfunction(handler) else {}
    signature = _signature(handler)

    def annotation(place: str) -> Any:
        given = signature.return_annotation if place == "return" else signature.parameters[place].annotation
        if given is signature.empty:
            return None
        try:
            return evaluate_annotation(given, getattr(handler, "__module__", ""), {**local, **closure})
        except Exception as exc:  # the author's expression may raise anything
            raise Declaration(f"endpoint {name}: the annotation {given!r} cannot be evaluated: {type(exc).__name__}: {exc}") from exc

    return annotation


def _signature(handler: Callable[..., object]) -> inspect.Signature:
    try:
        return inspect.signature(handler)
    except ValueError:  # written in C; the plan refuses it
        return inspect.Signature()


def _schema(name: str, annotation: Any) -> type[Schema] | None:
    """The schema in an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, Schema):
        raise Declaration(f"endpoint {name}: annotate with {annotation.__name__}.DataFrame, since the handler sees a frame")
    if get_origin(annotation) is not Annotated:
        return None
    frame, *beside = get_args(annotation)
    schemas = [each for each in beside if isinstance(each, type) and issubclass(each, Schema)]
    if len(schemas) > 1 or (schemas and frame is not pl.DataFrame):
        raise Declaration(f"endpoint {name}: {annotation!r} must be one frame of one schema: write {schemas[0].__name__}.DataFrame")
    return schemas[0] if schemas else None


def _result(flavour: HandlerKind, annotation: Any) -> Any:
    """What the handler returns, or yields: `Iterator[Output.DataFrame]` is about the parts."""
    if flavour.streams and get_origin(annotation) in _ITERATORS:
        return get_args(annotation)[0]
    return annotation


__all__ = ["BatchPolicy", "Endpoint", "endpoint", "parse_path", "path_shape"]
