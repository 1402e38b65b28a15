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
from base.errors import Full, LoadFailed, Misfit, NotFound, PexdockError, Unavailable
from base.log import get_logger
from base.worker.prediction.handler_call import BatchContext
from base.worker.prediction.predictor import Predictor

log = get_logger(__name__)

VARIANTS_MAX = 3
"""Number of artifacts that are tried for an endpoint with parameters, since a single one may be broken. One that loads is enough."""


def warm_up(predictors: Iterable[Predictor], *, lenient: bool = False) -> list[str]:
    """Loads a model for each endpoint, and calls its handler once if a row can be made for it.

    Args:
        predictors: The predictors of all endpoints.
        lenient: Logs errors instead of raising them.

    Returns:
        Warnings about failures that may not be the fault of the release.

    Raises:
        LoadFailed, Unavailable, Full: No model can be loaded now.
        HandlerFailed, BadResult, CallerError: The handler failed on the example that its author gave.
    """
    warnings: list[str] = []
    for predictor in predictors:
        try:
            _warm_up_endpoint(predictor, warnings)
        except PexdockError as exc:
            if not lenient:
                raise
            log.warning("endpoint %s: warm-up: %s", predictor.endpoint.name, exc)
    return warnings


def _warm_up_endpoint(predictor: Predictor, warnings: list[str]) -> None:
    started_s, name = time.monotonic(), predictor.endpoint.name
    try:
        found = _load_model(predictor)
    except (NotFound, Misfit) as exc:
        _warn(warnings, f"endpoint {name} has no model to begin with: {exc.detail}")
        return
    if found is None:
        log.info("endpoint %s: its handler was not called, since no parameters of its path are known", name)
        return
    parameters, lease = found
    query = example_query(predictor.endpoint)
    try:
        context = BatchContext(parameters, single_request=True, context=Request(id="warm-up", until=math.inf), query=query or {})
        called = query is not None and predictor.call_with_example(lease, context)
    except PexdockError as exc:
        schema = predictor.endpoint.input_schema
        if schema is None or schema.has_examples():
            raise
        _warn(warnings, f"endpoint {name} failed on a row that was made up from its schema: {exc.detail}")
        return
    finally:
        if lease is not None:
            lease.release()
    took_s = time.monotonic() - started_s
    if called:
        log.info("endpoint %s is warm after %.2f s", name, took_s)
    else:
        loaded = "" if lease is None else f" has loaded a model after {took_s:.2f} s"
        log.info("endpoint %s%s: its handler was not called, since %s", name, loaded, _why_not_called(predictor.endpoint))


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
