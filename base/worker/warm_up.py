"""The warm-up of a worker before it is ready: each endpoint loads a model and predicts one row."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from base.artifacts.cache.cache import Cache, Lease, Pending
from base.endpoint.context import Request
from base.endpoint.describe import example_query, known_parameters
from base.endpoint.endpoint import Endpoint
from base.endpoint.parameters import QueryValues
from base.errors import Declaration, Full, LoadFailed, Misfit, NotFound, PexdockError, Unavailable
from base.ipc.control import BATCH_CHECK_OFF, BATCH_CHECK_REFUSE
from base.log import get_logger
from base.worker.batch_check import check_batching, is_checked
from base.worker.prediction.handler_call import BatchContext
from base.worker.prediction.predictor import Predictor

log = get_logger(__name__)

VARIANTS_MAX = 3
"""Number of artifacts that are tried for an endpoint with parameters, since a single one may be broken. One that loads is enough."""


def warm_up(predictors: Iterable[Predictor], *, lenient: bool = False, batch_check: str = BATCH_CHECK_REFUSE) -> list[str]:
    """Loads a model for each endpoint, calls its handler once if a row can be made for it, and checks how it answers several rows.

    Args:
        predictors: The predictors of all endpoints.
        lenient: Logs errors instead of raising them.
        batch_check: What follows if the answer of a handler for a row depends on other rows: see `BATCH_CHECK_ENV`.

    Returns:
        Warnings about failures that may not be the fault of the release.

    Raises:
        LoadFailed, Unavailable, Full: No model can be loaded now.
        HandlerFailed, BadResult, CallerError: The handler failed on the example that its author gave.
        Declaration: The answer of a handler for a row depends on other rows.
    """
    warnings: list[str] = []
    for predictor in predictors:
        try:
            _warm_up_endpoint(predictor, warnings, batch_check)
        except PexdockError as exc:
            if not lenient:
                raise
            log.warning("endpoint %s: warm-up: %s", predictor.endpoint.name, exc)
    return warnings


def check_batches(predictors: Iterable[Predictor]) -> None:
    """Checks how handlers answer several rows, and nothing else. An endpoint for which no model can be loaded is not checked.

    Raises:
        Declaration: The answer of a handler for a row depends on other rows.
    """
    for predictor in predictors:
        if not is_checked(predictor.endpoint):
            continue
        try:
            found = _load_model(predictor)
        except PexdockError as exc:
            log.info("endpoint %s: how it answers several rows was not checked: %s", predictor.endpoint.name, exc)
            continue
        query = example_query(predictor.endpoint)
        if found is None or query is None:
            continue
        parameters, lease = found
        try:
            _check(predictor, lease, _context(parameters, query), [], BATCH_CHECK_REFUSE)
        finally:
            if lease is not None:
                lease.release()


def _warm_up_endpoint(predictor: Predictor, warnings: list[str], batch_check: str) -> None:
    started_s, endpoint = time.monotonic(), predictor.endpoint
    name = endpoint.name
    try:
        found = _load_model(predictor)
    except (NotFound, Misfit) as exc:
        _warn(warnings, f"endpoint {name} has no model to begin with: {exc.detail}")
        return
    if found is None:
        log.info("endpoint %s: its handler was not called, since no parameters of its path are known", name)
        return
    parameters, lease = found
    query = example_query(endpoint)
    context = _context(parameters, query or {})
    try:
        called = query is not None and _call_with_example(predictor, lease, context, warnings)
        if called and batch_check != BATCH_CHECK_OFF and is_checked(endpoint):
            _check(predictor, lease, context, warnings, batch_check)
    finally:
        if lease is not None:
            lease.release()
    took_s = time.monotonic() - started_s
    if called:
        log.info("endpoint %s is warm after %.2f s", name, took_s)
    else:
        loaded = "" if lease is None else f" has loaded a model after {took_s:.2f} s"
        log.info("endpoint %s%s: its handler was not called, since %s", name, loaded, _why_not_called(endpoint))


def _context(parameters: Mapping[str, str], query: QueryValues) -> BatchContext:
    return BatchContext(parameters, single_request=True, context=Request(id="warm-up", until=math.inf), query=query)


def _call_with_example(predictor: Predictor, lease: Lease | None, context: BatchContext, warnings: list[str]) -> bool:
    """Calls the handler with the example of its schema. Returns False if the handler must not be called."""
    try:
        return predictor.call_with_example(lease, context)
    except PexdockError as exc:
        schema = predictor.endpoint.input_schema
        if schema is None or schema.has_examples():
            raise
        _warn(warnings, f"endpoint {predictor.endpoint.name} failed on a row that was made up from its schema: {exc.detail}")
        return True


def _check(predictor: Predictor, lease: Lease | None, context: BatchContext, warnings: list[str], batch_check: str) -> None:
    name = predictor.endpoint.name
    try:
        verdict = check_batching(predictor, lease, context)
    except Declaration as exc:
        if batch_check == BATCH_CHECK_REFUSE:
            raise
        _warn(warnings, exc.detail)
        return
    if verdict.is_warning:
        _warn(warnings, f"endpoint {name}: {verdict.doubt}")
    elif verdict.doubt:
        log.info("endpoint %s: whether its answer for a row depends on other rows is unknown: %s", name, verdict.doubt)


def _why_not_called(endpoint: Endpoint[..., Any]) -> str:
    if not endpoint.warm_up:
        return "it has warm_up=False"
    if endpoint.raw:
        return "it takes raw requests"
    return "it has no schema" if endpoint.input_schema is None else "a parameter of its query has no example"


def _warn(warnings: list[str], warning: str) -> None:
    log.warning("%s", warning)
    warnings.append(warning)


def _load_model(predictor: Predictor) -> tuple[Mapping[str, str], Lease | None] | None:
    """Returns parameters and their model; None if no parameters are known for which there could be a model."""
    endpoint, cache = predictor.endpoint, predictor.cache
    if cache is None:
        return None if endpoint.parameters else ({}, None)
    if not endpoint.parameters:
        return {}, _wait_loaded(cache, {})
    failure: PexdockError | None = None
    for parameters in islice(known_parameters(endpoint), VARIANTS_MAX):
        try:
            return parameters, _wait_loaded(cache, parameters)
        except (LoadFailed, Unavailable, Full, NotFound, Misfit) as exc:
            log.warning("endpoint %s: %s: %s", endpoint.name, parameters, exc)
            failure = exc
    if failure is not None:
        raise failure
    return None


def _wait_loaded(cache: Cache, parameters: Mapping[str, str]) -> Lease:
    """Waits until the model is loaded. The supervisor limits this by the time that a worker may take to become ready."""
    done = threading.Event()
    found = cache.lookup(parameters, done.set)
    if not isinstance(found, Pending):
        return found
    done.wait()
    return found.take_lease()
