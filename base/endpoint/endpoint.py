"""Endpoints: `@endpoint` makes one from a handler and checks its declaration. Authors use it through `import base.service as svc`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, ParamSpec, TypeVar, get_args, get_origin

from base.artifacts.config import CacheConfig
from base.endpoint.call_plan import AvailableInputs, CallPlan, HandlerKind
from base.endpoint.injection import plan_call
from base.endpoint.path import METHODS, parse_path, path_shape, routed_path
from base.endpoint.response_rules import InvalidResponse, check_response
from base.errors import Declaration
from base.schema.annotations import evaluate_annotation
from base.schema.forms import FrameForm, frame_converter, frame_form, schemas_of
from base.schema.groups import check_group_columns
from base.schema.model import Schema

P = ParamSpec("P")
R = TypeVar("R")

_ITERATORS = frozenset({Iterator, Iterable, Generator, AsyncIterator, AsyncIterable, AsyncGenerator})

BATCH_MAX_ROWS = 1_000_000
BATCH_MAX_DELAY_MS = 60_000

CONCURRENCY_MAX = 48
"""Limit of calls at the same time in a worker. Each holds one of the 64 slots that a front door has for it."""
_CONCURRENCY = 16

_GATHERED_ROWS = 64
"""Number of rows that are gathered for a handler whose author sets no limit."""


@dataclass(frozen=True)
class BatchPolicy:
    """The limits within which requests are gathered into a batch for a handler.

    Attributes:
        max_rows: Maximum number of rows in a batch of several requests; a single larger request is a batch of its own.
        max_delay_ms: Maximum time that a request waits for others. An upper bound, never a forced wait.
        call_max_rows: Maximum number of rows in one call of the handler, which gets a larger request in parts; None for no limit.
    """

    max_rows: int
    max_delay_ms: int
    call_max_rows: int | None = None


@dataclass(frozen=True, eq=False)
class Endpoint(Generic[P, R]):
    """A handler with its path, schemas and batch policy. Calling it calls the handler, so a unit test needs no server.

    Attributes:
        name: The handler's name.
        path: The path without a trailing slash.
        parameters: The names of the path's parameters, in their order.
        handler: A function, a coroutine function, or a generator of either kind, whose parts are streamed.
        input_schema: The schema of the rows; None if the columns are inferred from each request.
        output_schema: The schema of the result; None if any rows are allowed.
        cache_config: How models are found and loaded; None for an endpoint without models.
        batch: The limits within which requests are gathered.
        call_plan: The values that the handler is called with.
        handler_kind: The kind of function that the handler is.
        raw: True if the handler takes undecoded bodies.
        unexpected: "ignore" or "reject" fields that the input schema does not have.
        headers: The headers that contexts have, in lower case.
        warm_up: True if the handler is called once before a worker is ready.
        retry: True if a request may be computed once more after its worker died.
        timeout_ms: Time limit of a request whose client gives none; None for the operator's limit.
        max_concurrency: Limit of calls of an async handler at the same time; 1 for all others.
        media_type: Media type of the bytes that a generator yields; empty if its parts are JSON, or it is no generator.
        batched: False if each request is a call of its own, and the result may have any number of rows.
        batch_check: True if the handler may be refused because its answer for a row depends on other rows of a batch.
        job: True if each request becomes a job.
        group_by: The columns whose values divide the rows of a request into groups, each of which is a call; empty if there are none.
        method: The method of its requests.
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
    max_concurrency: int = 1
    media_type: str = ""
    batched: bool = True
    batch_check: bool = True
    job: bool = False
    group_by: tuple[str, ...] = ()
    method: str = "POST"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Calls the handler and does nothing else."""
        return self.handler(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Endpoint {self.name} {self.path}>"

    @property
    def path_shape(self) -> str:
        """Returns method and path without the names in it. Two endpoints of one shape would answer the same requests."""
        return routed_path(self.method, path_shape(self.path))

    @property
    def unbatched(self) -> bool:
        """Returns True if the handler is called with one request at a time and may ask for its context."""
        return self.call_plan.unbatched or self.raw or self.handler_kind.streams


def endpoint(  # noqa: PLR0913, PLR0917 - an endpoint's settings, which authors give by name
    path: str,
    cache_config: CacheConfig | None = None,
    batch_max_delay_ms: int = 10,
    batch_max_size: int | None = None,
    validate_artifact_params: bool = False,
    unexpected: Literal["ignore", "reject"] = "ignore",
    raw: bool = False,
    headers: Sequence[str] = (),
    warm_up: bool = True,
    retry: bool = True,
    timeout_ms: int | None = None,
    max_concurrency: int | None = None,
    media_type: str = "",
    batched: bool = True,
    batch_check: bool = True,
    job: bool = False,
    group_by: Sequence[str] | None = None,
    method: Literal["POST", "PUT", "DELETE"] = "POST",
) -> Callable[[Callable[P, R]], Endpoint[P, R]]:
    """Makes an `Endpoint` from a handler.

    Args:
        path: Begins with "/"; `{name}` takes one whole segment. A trailing slash makes no difference.
        cache_config: How the endpoint finds and loads its models. With it, the handler takes `(model, frame)`, otherwise `(frame)`; for
            its other parameters and their order see `base.endpoint.injection`.
        batch_max_delay_ms: See `BatchPolicy`.
        batch_max_size: Maximum number of rows in a call of the handler. The rows of a larger request are given in several calls, perhaps on
            several workers, unless the handler takes a single request: raw, with a context, or as a generator. If None, 64 rows of several
            requests are gathered, and the rows of one request are never divided.
        validate_artifact_params: Requires that `cache_config` has a `spec`. An existing spec is always applied.
        unexpected: "ignore" skips fields that the input schema does not have; "reject" answers their request with 422.
        raw: The handler takes the unparsed request (`svc.Request`) instead of a frame, and builds its own response.
        headers: The headers that `svc.Context` has; all others stay in the front door.
        warm_up: Allows the handler to be called with an example before a worker is ready. Set it to False for a handler with side effects.
        retry: Computes a request once more on another worker if its worker died before it answered. Set it to False for a handler that must
            not be called twice with the same rows; its requests are then answered with 503.
        timeout_ms: Time limit of a request whose client gives none (`X-Request-Timeout-Ms`); never more than the operator's
            `request_timeout_s`, which is the default.
        max_concurrency: Limit of calls of an async handler at the same time in one worker, 16 by default. Other handlers are called one
            after the other.
        media_type: For a generator that yields bytes or text: the media type of the response, which is sent as it is yielded. Without it
            each part is a line of JSON.
        batched: False calls the handler once for each request, with all of its rows, even if there are none. The result may then have any
            number of rows, or be one record as a dict, whose values may be frames (see `base.worker.prediction.result`).
        batch_check: Before a worker is ready, the handler is called with rows alone and beside others, and the release is refused if it
            answers them differently (see `base.worker.batch_check`). Set it to False for a handler whose answers differ by themselves, as
            random ones do, or whose answer for a row may depend on rows of other clients.
        job: True makes each request a job: its client gets 202 at once, and fetches the result later. Every other endpoint does the same
            for clients that ask for it with `Prefer: respond-async`. See `svc.Context` for progress, cancellation and checkpoints.
        group_by: Names of columns. The handler is called once for each group of rows with equal values in them, of one request, perhaps on
            several workers at the same time. It may return any number of rows, or one row as a dict; the columns of the group are added.
            A group that fails is reported, and the others are answered (see `base.schema.groups`).
        method: The method of the requests. Endpoints with one path may have different methods.

    Raises:
        Declaration: The declaration cannot work; the message says what to change.
    """
    local = sys._getframe(1).f_locals  # noqa: SLF001 - annotations may name schemas of the function that defines the handler

    def make(handler: Callable[P, R]) -> Endpoint[P, R]:
        name = getattr(handler, "__name__", type(handler).__name__)
        for flag, value in {
            "batched": batched,
            "batch_check": batch_check,
            "job": job,
            "raw": raw,
            "warm_up": warm_up,
            "retry": retry,
        }.items():
            if not isinstance(value, bool):
                raise Declaration(f"endpoint {name}: {flag} is {value!r}; use True or False")
        if method not in METHODS:
            raise Declaration(f"endpoint {name}: method is {method!r}; use one of {', '.join(METHODS)}")
        normal_path, parameters = parse_path(path)
        _check_cache(name, parameters, cache_config, validate_artifact_params)
        annotations = _annotations(name, handler, local)
        kind = HandlerKind.detect(handler)
        spec = None if cache_config is None else cache_config.spec
        call_plan = plan_call(handler, AvailableInputs(name, parameters, cache_config is not None, spec, raw), annotations)
        if call_plan.frame_form is FrameForm.ITERATOR and (group_by is not None or (batched and not kind.streams)):
            and_drop = "" if group_by is None else " in place of group_by"
            raise Declaration(
                f"endpoint {name}: a handler that takes {call_plan.frame_form.value} gets whole requests; add batched=False{and_drop}"
            )
        output = _schema(name, _result_annotation(kind, annotations("return")), may_be_record=not batched or group_by is not None)
        if raw and output is not None:
            raise Declaration(
                f"endpoint {name}: with raw=True the handler builds its own response; drop its result schema {output.__name__}"
            )
        schema = None if call_plan.frame is None else _schema(name, _frame_annotation(annotations(call_plan.frame)))
        call_plan.frame_converter = frame_converter(f"endpoint {name}", call_plan.frame_form, schema)
        groups = () if group_by is None else check_group_columns(f"endpoint {name}", group_by, schema, output)
        if groups and (raw or kind.streams or call_plan.frame is None):
            raise Declaration(f"endpoint {name}: group_by divides a frame into calls that return; drop it, or raw=True and `yield`")
        return Endpoint(
            name=name,
            path=normal_path,
            parameters=parameters,
            handler=handler,
            input_schema=schema,
            output_schema=output,
            cache_config=cache_config,
            batch=(
                _batch_policy(name, batch_max_size, batch_max_delay_ms, divides=not (call_plan.unbatched or raw or kind.streams))
                if batched and not groups
                else _unbatched_policy(name, batch_max_size)
            ),
            call_plan=call_plan,
            handler_kind=kind,
            raw=raw,
            unexpected=_checked_unexpected(name, unexpected),
            headers=tuple(each.lower() for each in headers),
            warm_up=warm_up,
            retry=retry,
            timeout_ms=_checked_timeout(name, timeout_ms),
            max_concurrency=_checked_concurrency(name, kind, max_concurrency),
            media_type=_checked_media_type(name, media_type, kind, output),
            batched=batched and not groups,
            batch_check=batch_check,
            group_by=groups,
            job=job,
            method=method,
        )

    return make


def _check_cache(name: str, parameters: tuple[str, ...], config: CacheConfig | None, spec_needed: bool) -> None:
    if spec_needed and (config is None or config.spec is None):
        raise Declaration(f"endpoint {name}: validate_artifact_params needs a spec; give its cache_config one")
    if config is None:
        return
    missing = [each for each in config.client.parameters if each not in parameters]
    if missing:
        raise Declaration(
            f"endpoint {name}: its artifacts need {missing}, which its path does not have; put {{{missing[0]}}} into the path "
            "or take it out of the path template"
        )


def _checked_unexpected(name: str, policy: str) -> str:
    if policy not in {"ignore", "reject"}:
        raise Declaration(f"endpoint {name}: unexpected is {policy!r}; use 'ignore' or 'reject'")
    return policy


def _batch_policy(name: str, declared: int | None, delay_ms: int, *, divides: bool) -> BatchPolicy:
    rows = _GATHERED_ROWS if declared is None else declared
    if not 1 <= rows <= BATCH_MAX_ROWS:
        raise Declaration(f"endpoint {name}: batch_max_size is {rows}; use a number of rows from 1 to {BATCH_MAX_ROWS}")
    if not 0 <= delay_ms <= BATCH_MAX_DELAY_MS:
        raise Declaration(f"endpoint {name}: batch_max_delay_ms is {delay_ms}; use milliseconds from 0 to {BATCH_MAX_DELAY_MS}")
    return BatchPolicy(rows, delay_ms, declared if divides else None)


def _unbatched_policy(name: str, declared: int | None) -> BatchPolicy:
    if declared is not None:
        raise Declaration(
            f"endpoint {name}: batch_max_size limits the rows of a batch, and batched=False makes none, nor does group_by; drop one"
        )
    return BatchPolicy(1, 0)


def _checked_timeout(name: str, timeout_ms: int | None) -> int | None:
    if timeout_ms is not None and timeout_ms < 1:
        raise Declaration(f"endpoint {name}: timeout_ms is {timeout_ms}; use at least 1, or None for the operator's limit")
    return timeout_ms


def _checked_concurrency(name: str, kind: HandlerKind, calls: int | None) -> int:
    if not kind.is_async:
        if calls is not None:
            raise Declaration(f"endpoint {name}: max_concurrency needs an async handler; drop it, or write `async def`")
        return 1
    if calls is not None and not 1 <= calls <= CONCURRENCY_MAX:
        raise Declaration(f"endpoint {name}: max_concurrency is {calls}; use a number of calls from 1 to {CONCURRENCY_MAX}")
    return _CONCURRENCY if calls is None else calls


def _checked_media_type(name: str, media_type: str, kind: HandlerKind, output: type[Schema] | None) -> str:
    if media_type and not kind.streams:
        raise Declaration(f"endpoint {name}: media_type is for generators; return svc.Response(body, {media_type!r}) with raw=True instead")
    if media_type and output is not None:
        raise Declaration(f"endpoint {name}: with media_type the parts are bytes or text; drop their schema {output.__name__}")
    try:
        check_response(200, media_type, 0)
    except InvalidResponse as exc:
        raise Declaration(f"endpoint {name}: {exc.detail}") from exc
    return media_type


def _annotations(name: str, handler: Callable[..., object], local: Mapping[str, object]) -> Callable[[str], Any]:
    """Returns a function that evaluates the annotation of a parameter, or of the result by the name "return"; None if there is none."""
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
    except ValueError:  # written in C; `plan_call` refuses it
        return inspect.Signature()


def _schema(name: str, annotation: Any, *, may_be_record: bool = False) -> type[Schema] | None:
    """Returns the schema that an annotation names, or None. It may be the schema of a record: `Annotated[dict[str, object], Output]`."""
    if isinstance(annotation, type) and issubclass(annotation, Schema):
        rows = annotation.__name__
        raise Declaration(f"endpoint {name}: annotate with {rows}.DataFrame or list[{rows}], since the handler returns several rows")
    schemas = schemas_of(annotation)
    kind = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    is_record = may_be_record and (get_origin(kind) or kind) is dict
    if len(schemas) > 1 or (schemas and not is_record and frame_form(kind) is None):
        raise Declaration(f"endpoint {name}: {annotation!r} must be one frame of one schema; write {schemas[0].__name__}.DataFrame")
    return schemas[0] if schemas else None


def _frame_annotation(annotation: Any) -> Any:
    """Returns the annotation of the frame or, if the handler takes an iterator of frames, of each of them."""
    return get_args(annotation)[0] if frame_form(annotation) is FrameForm.ITERATOR else annotation


def _result_annotation(kind: HandlerKind, annotation: Any) -> Any:
    """Returns the annotation of the handler's result or, if it streams, of the parts: `Iterator[Output.DataFrame]`."""
    if kind.streams and get_origin(annotation) in _ITERATORS:
        return get_args(annotation)[0]
    return annotation


__all__ = ["BatchPolicy", "Endpoint", "endpoint"]
