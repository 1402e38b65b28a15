"""One endpoint in a worker process: from a batch's frame and parameters to its result."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from uuid import uuid4

import polars as pl
import pyarrow as pa

from base.artifacts.cache import Cache, Lease, Pending
from base.endpoint import Endpoint
from base.errors import HandlerFailed, PexdockError
from base.ipc import failure
from base.result import to_batch

log = logging.getLogger(__name__)


class Predictor:
    """Owns the endpoint's cache."""

    def __init__(self, endpoint: Endpoint[..., object]) -> None:
        self.endpoint = endpoint
        self.input_schema = None if endpoint.input_schema is None else endpoint.input_schema.arrow_schema()
        self.has_output_schema = endpoint.output_schema is not None
        self._cache = None if endpoint.cache_config is None else Cache(endpoint.cache_config)

    def prefetch(self) -> None:
        """Begins the loads that the author wants before the first request. Reads the store."""
        config = self.endpoint.cache_config
        if self._cache is not None and config is not None and config.pre_fetch_all:
            self._cache.prefetch(self.endpoint.parameters)

    def lookup(self, parameters: Mapping[str, str], wake: Callable[[], None]) -> Lease | Pending | None:
        """The model for these parameters, see `Cache.lookup`; None for an endpoint that needs none.

        Raises:
            PexdockError: there will be no model for them now.
        """
        return None if self._cache is None else self._cache.lookup(parameters, wake)

    def predict(self, lease: Lease | None, batch: pa.RecordBatch, *, alone: bool) -> pa.RecordBatch:
        """Calls the handler on one batch.

        Args:
            lease: on the model; None for an endpoint that needs none.
            batch: the rows, which the handler may keep if whoever owns their memory watches for it.
            alone: the rows are of one request, so that a failure is its own and worth a traceback.

        Raises:
            HandlerFailed: the handler raised what means nothing to a client. Its message names no more than an id to find in the log.
            BadResult: what it returned breaks the contract.
        """
        frame = pl.DataFrame(batch)
        try:
            result = self.endpoint.handler(frame) if lease is None else self.endpoint.handler(lease.model, frame)
            return to_batch(result, batch.num_rows, self.endpoint.output_schema)
        except BaseException as exc:
            if isinstance(exc, PexdockError) and failure.travels(exc):
                raise
            raise self._failed(exc, alone=alone) from None

    def close(self) -> None:
        """Ends the cache's loads."""
        if self._cache is not None:
            self._cache.close()

    def _failed(self, error: BaseException, *, alone: bool) -> HandlerFailed:
        incident = uuid4().hex[:12]
        if alone:
            log.error("handler %s failed, incident %s", self.endpoint.name, incident, exc_info=error)
        else:
            log.warning("handler %s raised %s on a batch of several requests, tried in parts", self.endpoint.name, type(error).__name__)
        return HandlerFailed(f"the handler {self.endpoint.name} failed; the log tells why, at incident {incident}")
