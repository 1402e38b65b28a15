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

    def __init__(self, handler=lambda x: x * 2, answers_from=0):
        """Answers once so many calls were pending at a time."""
        self.decoder = RowDecoder(SCHEMA)
        self.empty = pa.RecordBatch.from_pylist([], RESULT)
        self.handler = handler
        self.calls = []
        self.pending = self.most = 0
        self.gate = asyncio.Event()
        self.answers_from = answers_from

    async def score(self, rows, *, is_suspect=False):
        self.pending += 1
        self.most = max(self.most, self.pending)
        try:
            if self.pending >= self.answers_from:
                self.gate.set()
            await self.gate.wait()
            x = np.array(rows.records.column(0).to_pylist(), np.int64)
            self.calls.append(x.tolist())
            return Answer(pa.RecordBatch.from_arrays([pa.array(self.handler(x))], schema=RESULT))
        finally:
            self.pending -= 1
