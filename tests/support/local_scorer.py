"""A scorer without workers: the handler is a function of the test, called in the event loop."""

import asyncio

import numpy as np
import pyarrow as pa

from runtime.front.codecs.decoder import RowDecoder
from runtime.score.refusals import Answer

SCHEMA = pa.schema([pa.field("x", pa.int64(), nullable=False), pa.field("s", pa.string_view())])
RESULT = pa.schema([pa.field("y", pa.int64())])


class LocalScorer:
    """Calls `handler` with the values of `x`, which returns those of `y` or raises an error.

    Attributes:
        calls: The values of each call.
        most: Most calls that were pending at a time.
    """

    parallel = 4
    is_whole = False

    def __init__(self, handler=lambda x: x * 2):
        self.decoder = RowDecoder(SCHEMA)
        self.empty = RESULT.empty_table().to_batches(1)[0] if RESULT.empty_table().to_batches() else pa.RecordBatch.from_pylist([], RESULT)
        self.handler = handler
        self.calls = []
        self.pending = self.most = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def score(self, rows, *, is_suspect=False):
        self.pending += 1
        self.most = max(self.most, self.pending)
        try:
            await asyncio.sleep(0)
            await self.gate.wait()
            x = np.array(rows.records.column(0).to_pylist(), np.int64)
            self.calls.append(x.tolist())
            return Answer(pa.RecordBatch.from_arrays([pa.array(self.handler(x))], schema=RESULT))
        finally:
            self.pending -= 1
