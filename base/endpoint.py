"""Endpoints: `@endpoint` makes one of a handler, and checks the declaration while it does: `import base.service as svc`."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Generic, ParamSpec, TypeVar, get_args, get_origin

import polars as pl

from base.artifacts.config import CacheConfig
from base.errors import Declaration
from base.ipc.control import EndpointWords, Example
from base.schema import Schema, evaluated

P = ParamSpec("P")
R = TypeVar("R")

_LITERAL = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@-]+")
"""A path segment that needs no percent-encoding (RFC 3986, pchar)."""
_PLACEHOLDER = re.compile(r"\{(.*)\}")

_RESERVED = frozenset({"livez", "readyz", "metrics", "docs", "openapi.json", "v2"})
"""First segments of the paths that are the front door's own."""

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
        handler: called with `(model, frame)` if there is a `cache_config`, else with `(frame)`.
        input_schema: what rows must look like; None where the frame is inferred from each request.
        output_schema: what the result must look like; None where any rows will do.
        cache_config: how it comes by its models; None where it needs none.
        batch: how requests are gathered.
    """

    name: str
    path: str
    parameters: tuple[str, ...]
    handler: Callable[P, R]
    input_schema: type[Schema] | None
    output_schema: type[Schema] | None
    cache_config: CacheConfig | None
    batch: BatchPolicy

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Calls the handler, and nothing else."""
        return self.handler(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Endpoint {self.name} {self.path}>"

    @property
    def shape(self) -> str:
        """The path without the names in it. Two endpoints of one shape would answer the same requests."""
        return shape_of(self.path)

    def words(self) -> EndpointWords:
        """What a front door needs to know. Looks for an artifact to show in the example, so it may read the store."""
        return EndpointWords(
            name=self.name,
            path=self.path,
            parameters=list(self.parameters),
            input_schema=_serialized(self.input_schema),
            output_schema=_serialized(self.output_schema),
            batch_max_rows=self.batch.max_rows,
            batch_max_delay_ms=self.batch.max_delay_ms,
            example=self.example(),
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
        if self.cache_config is None:
            return None
        for found in self.cache_config.client.list():
            if set(self.parameters) <= set(found):
                return {name: found[name] for name in self.parameters}
        return None


def endpoint(
    path: str,
    cache_config: CacheConfig | None = None,
    batch_max_delay_ms: int = 10,
    batch_max_size: int = 64,
    validate_artifact_params: bool = False,
) -> Callable[[Callable[P, R]], Endpoint[P, R]]:
    """Makes an `Endpoint` of a handler.

    Args:
        path: begins with "/"; `{name}` takes one whole segment. A trailing slash makes no difference.
        cache_config: how the endpoint comes by its models. The handler then takes `(model, frame)`, else `(frame)`.
        batch_max_delay_ms: see `BatchPolicy`.
        batch_max_size: rows; see `BatchPolicy`.
        validate_artifact_params: says that `cache_config` must have a `spec`. A spec that is there is always applied.

    Raises:
        Declaration: the declaration cannot work; the message says what to change.
    """
    local = sys._getframe(1).f_locals  # noqa: SLF001 - annotations may name schemas of the function that the handler is written in

    def make(handler: Callable[P, R]) -> Endpoint[P, R]:
        name = getattr(handler, "__name__", type(handler).__name__)
        normal, parameters = parsed_path(path)
        _check_cache(name, parameters, cache_config, validate_artifact_params)
        frame = _frame_parameter(name, handler, cache_config)
        return Endpoint(
            name=name,
            path=normal,
            parameters=parameters,
            handler=handler,
            input_schema=_schema(name, handler, frame, local),
            output_schema=_schema(name, handler, "return", local),
            cache_config=cache_config,
            batch=_policy(name, batch_max_size, batch_max_delay_ms),
        )

    return make


def parsed_path(path: str) -> tuple[str, tuple[str, ...]]:
    """The path without a trailing slash, and the names in it.

    Raises:
        Declaration: it does not begin with "/", has an empty or odd segment, or a name that is no identifier or comes twice.
    """
    normal = path.rstrip("/") if path.endswith("/") and not path.endswith("//") else path
    if not normal.startswith("/"):
        raise Declaration(f"path {path!r}: write a path that begins with '/' and has a segment, such as '/predictions/iris'")
    if normal.split("/")[1] in _RESERVED:
        raise Declaration(f"path {path!r}: the front door itself answers there; begin the path with another segment")
    names = []
    for segment in normal.split("/")[1:]:
        placeholder = _PLACEHOLDER.fullmatch(segment)
        if placeholder is None and (not _LITERAL.fullmatch(segment) or segment in {".", ".."}):
            raise Declaration(f"path {path!r}: segment {segment!r} must be plain letters and digits, or one {{name}} and nothing else")
        if placeholder is not None and not placeholder[1].isidentifier():
            raise Declaration(f"path {path!r}: {placeholder[1]!r} is no name for a parameter; use letters, digits and underscores")
        if placeholder is not None:
            names.append(placeholder[1])
    if len(set(names)) < len(names):
        raise Declaration(f"path {path!r}: each parameter may stand in it once")
    return normal, tuple(names)


def shape_of(path: str) -> str:
    """A path without the names in it: `/a/{}/b`."""
    return re.sub(r"\{[^{}]*\}", "{}", path)


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


def _policy(name: str, rows: int, delay_ms: int) -> BatchPolicy:
    if not 1 <= rows <= BATCH_MAX_ROWS:
        raise Declaration(f"endpoint {name}: batch_max_size is {rows}; give a number of rows from 1 to {BATCH_MAX_ROWS}")
    if not 0 <= delay_ms <= BATCH_MAX_DELAY_MS:
        raise Declaration(f"endpoint {name}: batch_max_delay_ms is {delay_ms}; give milliseconds from 0 to {BATCH_MAX_DELAY_MS}")
    return BatchPolicy(rows, delay_ms)


def _frame_parameter(name: str, handler: Callable[..., object], config: CacheConfig | None) -> str:
    """The name of the handler's parameter that takes the frame, once it is sure that the handler can be called as it will be."""
    if inspect.iscoroutinefunction(handler) or inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
        raise Declaration(f"endpoint {name}: a handler is a plain function that returns its result; drop `async` and `yield`")
    wanted, given = ("(model, records_df)", 2) if config is not None else ("(records_df)", 1)
    signature = inspect.signature(handler)
    try:
        bound = signature.bind(*[None] * given)
    except TypeError as exc:
        why = "it has a cache_config, so the model comes first" if config is not None else "it has no cache_config, so there is no model"
        raise Declaration(f"endpoint {name}: write its handler as {wanted}, since {why}; it is {signature}") from exc
    return list(bound.arguments)[-1]


def _schema(name: str, handler: Callable[..., object], place: str, local: Mapping[str, object]) -> type[Schema] | None:
    """The schema in the annotation of a parameter or of the result."""
    annotation = getattr(handler, "__annotations__", {}).get(place)
    closure = inspect.getclosurevars(handler).nonlocals if inspect.isfunction(handler) else {}
    try:
        found = evaluated(annotation, getattr(handler, "__module__", ""), {**local, **closure})
    except Exception as exc:  # the author's expression may raise anything
        raise Declaration(f"endpoint {name}: the annotation {annotation!r} cannot be evaluated: {type(exc).__name__}: {exc}") from exc
    if isinstance(found, type) and issubclass(found, Schema):
        raise Declaration(f"endpoint {name}: annotate with {found.__name__}.DataFrame, since the handler sees a frame")
    if get_origin(found) is not Annotated:
        return None
    frame, *beside = get_args(found)
    schemas = [each for each in beside if isinstance(each, type) and issubclass(each, Schema)]
    if len(schemas) > 1 or (schemas and frame is not pl.DataFrame):
        raise Declaration(f"endpoint {name}: {annotation!r} must be one frame of one schema: write {schemas[0].__name__}.DataFrame")
    return schemas[0] if schemas else None


def _serialized(schema: type[Schema] | None) -> bytes | None:
    return None if schema is None else bytes(schema.arrow_schema().serialize())


__all__ = ["BatchPolicy", "Endpoint", "endpoint", "parsed_path", "shape_of"]
