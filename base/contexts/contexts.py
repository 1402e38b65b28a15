"""Contexts: an author's pair of `fit` and `predict`, as the endpoints that clients call.

    contexts = svc.Contexts("/forecast", afs.FsClient("contexts", "{context_id}/{version}"), save_model=save, load_model=load)

    @contexts.fit()
    def fit(history: History.DataFrame, options: Options) -> Fitted: ...

    @contexts.predict()
    def predict(model: Fitted, records_df: Future.DataFrame) -> Forecast.DataFrame: ...

    [project.entry-points."pexdock.endpoints"]
    forecast = "forecast.endpoints:contexts.endpoints"

| endpoint | does |
|---|---|
| `POST /forecast/fit` | fits once for equal tables and parameters, under an id that is their digest |
| `PUT /forecast/contexts/{context_id}` | fits under the client's id, unless its newest version was fitted on the same |
| `POST /forecast/predict/{context_id}` | predicts with the newest version, which each worker loads once |
| `DELETE /forecast/contexts/{context_id}` | deletes all versions |
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from base.artifacts.config import CacheConfig
from base.contexts.digest import digest_of
from base.contexts.store import CONTEXT, ContextStore, ContextVersion, store_of
from base.endpoint.call_plan import HandlerKind
from base.endpoint.context import Context, Request, Response
from base.endpoint.endpoint import Endpoint, endpoint
from base.endpoint.path import parse_path
from base.errors import DeadlineExceeded, Declaration, NotFound, Unavailable
from base.schema.annotations import evaluate_annotation

F = TypeVar("F", bound=Callable[..., Any])


class Contexts:
    """A pair of `fit` and `predict`, and the store of what was fitted.

    Args:
        path: The path that the endpoints' paths begin with. Its parameters must be in the client's template, too.
        client: The store: an `FsClient` or `ObjectStoreClient` whose path template has `{context_id}` and `{version}`.
        save_model: Writes a fitted object to the file whose path (`pathlib.Path`) it gets.
        load_model: Returns the fitted object in the file whose path (`str`) it gets.
        version: The author's version of the fit. Change it when equal tables would be fitted in another way.
        max_age: Age at which a context can no longer be used; None for no limit.
        keep_versions: Number of versions of a context that stay in the store.
        refresh: Interval at which a worker looks for a newer version of a context that it has loaded.
        cache: Further settings of the cache of fitted objects in each worker, as in `CacheConfig`: `max_size`, `max_bytes`, `ttl`...

    Attributes:
        endpoints: The endpoints, for the entry point of the model, a `Server` or a `TestClient`. Complete once both handlers are declared.

    Raises:
        Declaration: The declaration cannot work; the message says what to change.
    """

    def __init__(  # noqa: PLR0913 - settings, which authors give by name
        self,
        path: str,
        client: Any,
        *,
        save_model: Callable[[Any, Path], object],
        load_model: Callable[[str], Any],
        version: str = "",
        max_age: timedelta | None = None,
        keep_versions: int = 2,
        refresh: timedelta = timedelta(seconds=5),
        cache: Mapping[str, Any] | None = None,
    ) -> None:
        self._path, self._names = parse_path(path)
        self._resource = f"{self._path}/contexts/{{{CONTEXT}}}"
        if keep_versions < 1:
            raise Declaration(f"contexts {path}: keep_versions is {keep_versions}; use at least 1")
        try:
            self._store: ContextStore = store_of(client, None if max_age is None else max_age.total_seconds())
            self._cache = CacheConfig(
                client=self._store,
                load_model=functools.partial(_load, load_model),
                interval=refresh,
                jitter=refresh / 5,
                evict_missing=True,
                **(cache or {}),
            )
        except (TypeError, ValueError) as exc:
            raise Declaration(f"contexts {path}: {exc}") from exc
        strangers = {*self._store.parameters} ^ {*self._names, CONTEXT}
        if strangers:
            raise Declaration(f"contexts {path}: path and template must have the same parameters, unlike {sorted(strangers)}")
        self._save_model = save_model
        self._version = version
        self._keep = keep_versions
        self.endpoints: list[Endpoint[..., Any]] = []

    def fit(self, **settings: Any) -> Callable[[F], F]:
        """Declares the handler that fits: it gets the table, and may ask for `Parameters` or a `Context`. Returns the handler itself.

        Args:
            settings: Settings of the endpoint, as in `endpoint`: `job=True` for a long fit, `timeout_ms`...
        """
        local = sys._getframe(1).f_locals  # noqa: SLF001 - annotations may name classes of the function that defines the handler

        def declare(handler: F) -> F:
            if HandlerKind.detect(handler) is not HandlerKind.FUNCTION:
                raise Declaration(f"contexts {self._path}: fit must be a plain function; `async def` and `yield` are for predict")
            for method, path, names in (("POST", f"{self._path}/fit", self._names), ("PUT", self._resource, (*self._names, CONTEXT))):
                fit = _Fit(self._store, handler, local, names, self._version, self._save)
                self._add(fit.endpoint(path, {"method": method, **settings}))
            self._add(self._delete_endpoint())
            return handler

        return declare

    def predict(self, **settings: Any) -> Callable[[F], F]:
        """Declares the handler that predicts: `(model, frame)`, as of any endpoint with a cache. Returns the handler itself.

        Args:
            settings: Settings of the endpoint, as in `endpoint`.
        """
        local = sys._getframe(1).f_locals  # noqa: SLF001 - as above

        def declare(handler: F) -> F:
            plain = HandlerKind.detect(handler) is HandlerKind.FUNCTION
            resolved = _with_signature(handler, handler, _evaluated_signature(handler, local)) if plain else handler
            self._add(endpoint(f"{self._path}/predict/{{{CONTEXT}}}", self._cache, **settings)(resolved))
            return handler

        return declare

    def _add(self, made: Endpoint[..., Any]) -> None:
        if any(each.path_shape == made.path_shape for each in self.endpoints):
            raise Declaration(f"contexts {self._path}: it has an endpoint {made.path} already; declare fit and predict once each")
        self.endpoints.append(made)

    def _save(self, parameters: Mapping[str, str], digest: str, model: Any) -> tuple[ContextVersion, int | None]:
        return self._store.save(parameters, digest, functools.partial(self._save_model, model), self._keep)

    def _delete_endpoint(self) -> Endpoint[..., Any]:
        store = self._store

        def delete(request: Request, **parameters: str) -> Response:  # noqa: ARG001 - which has no body
            """Deletes a context."""
            if not store.delete(parameters):
                raise NotFound(f"there is no context {parameters[CONTEXT]!r}")
            return Response(b"", "", 204)

        request = inspect.Parameter("request", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Request)
        signature = inspect.Signature([request, *_texts((*self._names, CONTEXT))])
        return endpoint(self._resource, raw=True, method="DELETE")(_with_signature(delete, delete, signature))


class _Fit:
    """Calls the author's `fit` if nothing equal was fitted, and stores what it returns.

    Args:
        store: The store of contexts.
        handler: The author's function.
        local: Names that were visible where it is defined.
        names: Names of the path's parameters.
        version: The author's version of the fit.
        save: Stores a fitted object.
    """

    def __init__(
        self,
        store: ContextStore,
        handler: Callable[..., Any],
        local: Mapping[str, object],
        names: tuple[str, ...],
        version: str,
        save: Callable[[Mapping[str, str], str, Any], tuple[ContextVersion, int | None]],
    ) -> None:
        self._store = store
        self._handler = handler
        self._names = names
        self._version = version
        self._save = save
        self._signature = _evaluated_signature(handler, local)
        self._frame = ""

    def endpoint(self, path: str, settings: Mapping[str, Any]) -> Endpoint[..., Any]:
        """Returns the endpoint with this path.

        Raises:
            Declaration: The handler or a setting cannot work.
        """
        added = [name for name in self._names if name not in self._signature.parameters]
        parameters = [*self._signature.parameters.values(), *_texts(added)]
        signature = self._signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty)

        def fit(*args: Any, **kwargs: Any) -> dict[str, Any]:
            texts = {name: str(kwargs[name]) for name in self._names}
            for name in added:
                del kwargs[name]
            return self._fit(texts, self._signature.bind(*args, **kwargs))

        made = endpoint(path, **{"batched": False, "warm_up": False, **settings})(_with_signature(fit, self._handler, signature))
        if made.call_plan.frame is None:
            raise Declaration(f"contexts {path}: fit needs the table; annotate a parameter with a schema's DataFrame, and drop raw=True")
        self._frame = made.call_plan.frame
        return made

    def _fit(self, texts: dict[str, str], arguments: inspect.BoundArguments) -> dict[str, Any]:
        given = dict(arguments.arguments)
        digest = digest_of(given.pop(self._frame), given, self._version)
        parameters = {CONTEXT: digest, **texts}
        with self._store.locked(parameters):
            newest = self._store.newest(parameters)
            if newest is not None and newest.digest == digest:
                return _described(parameters, newest, fitted=False)
            watched = {name: _WatchedContext(**vars(each)) for name, each in given.items() if isinstance(each, Context)}
            arguments.arguments.update(watched)
            model = self._handler(*arguments.args, **arguments.kwargs)
            if any(each.noticed for each in watched.values()):
                # What it returns then may be half of a model.
                raise DeadlineExceeded("the fit was cancelled, or ran out of time; nothing was stored")
            version, size_bytes = self._save(parameters, digest, model)
        described = _described(parameters, version, fitted=size_bytes is not None)
        return described if size_bytes is None else {**described, "bytes": size_bytes}


class _WatchedContext(Context):
    """A context that notes whether the handler has learned that nobody wants its result.

    Attributes:
        noticed: Whether it has.
    """

    noticed = False

    def cancelled(self) -> bool:
        """Returns whether nobody wants the result, see `Context.cancelled`."""
        if found := super().cancelled():
            object.__setattr__(self, "noticed", True)
        return found


def _load(load_model: Callable[[str], Any], path: str) -> Any:
    """Returns the fitted object in a file, which may be deleted meanwhile."""
    try:
        return load_model(path)
    except OSError as exc:
        if os.path.exists(path):  # noqa: PTH110 - the path is text
            raise
        raise Unavailable("the context was replaced while it was loaded; try again") from exc


def _described(parameters: Mapping[str, str], version: ContextVersion, *, fitted: bool) -> dict[str, Any]:
    created = datetime.fromtimestamp(version.created_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return {CONTEXT: parameters[CONTEXT], "version": str(version), "created": created, "fitted": fitted}


def _texts(names: Any) -> list[inspect.Parameter]:
    return [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=str) for name in names]


def _evaluated_signature(handler: Callable[..., Any], local: Mapping[str, object]) -> inspect.Signature:
    """Returns the signature of a handler with its annotations as objects; one that cannot be evaluated stays text."""
    closure = inspect.getclosurevars(handler).nonlocals if inspect.isfunction(handler) else {}
    signature = inspect.signature(handler)

    def evaluated(annotation: Any) -> Any:
        try:
            return evaluate_annotation(annotation, getattr(handler, "__module__", ""), {**local, **closure})
        except Exception:  # noqa: BLE001 - the author's expression may raise anything; `endpoint` evaluates it again where it needs it
            return annotation

    parameters = [each.replace(annotation=evaluated(each.annotation)) for each in signature.parameters.values()]
    return signature.replace(parameters=parameters, return_annotation=evaluated(signature.return_annotation))


def _with_signature(function: Callable[..., Any], named: Callable[..., Any], signature: inspect.Signature) -> Callable[..., Any]:
    """Returns a function like `function` with the name and the text of `named`, and another signature."""

    @functools.wraps(named)
    def made(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    made.__signature__ = signature  # type: ignore[attr-defined]
    return made
