"""Puts the results of all parts of a run into one file, if the output is a file and no folder. Blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from base.errors import Conflict
from runtime.score.journal import REFUSED, Journal, PartRecord
from runtime.score.places import OutputFolder, folder_at
from runtime.score.results import WRITERS, Output


class SingleFile:
    """The only file of an output, beside the folder of its parts, which is removed once the file is complete.

    Args:
        output: The output.
        parts: The folder of its parts, which are Arrow files.
    """

    def __init__(self, output: Output, parts: OutputFolder) -> None:
        folder, _, self._name = output.file.rpartition("/")
        self._output = output
        self._parts = parts
        self._folder = folder_at(folder or ("/" if output.file.startswith("/") else "."), parts.aside)

    def require_absent(self, journal: Journal) -> None:
        """Raises Conflict if the file exists, and is not that of a run that was killed just before its end."""
        if journal.is_new and self._name in self._folder.names():
            raise Conflict(f"{self._output.file} exists; name another file, or remove this one to score anew")

    def write(self, records: Sequence[PartRecord]) -> None:
        """Writes the file, and one with the refused rows if there are any, and removes the parts."""
        aside = self._parts.aside / "joined"
        aside.unlink(missing_ok=True)
        batches = self._batches(records)
        writer = WRITERS[self._output.ending](aside, next(batches))
        try:
            for batch in batches:
                if batch.num_rows:  # a part without results may not know their types
                    writer.write(batch)
            writer.finish()
        finally:
            writer.close()
        if any(record.refused for record in records):
            refused = self._parts.aside / "refused"
            refused.write_bytes(self._parts.read(REFUSED))
            self._folder.publish(refused, f"{self._name}{REFUSED}")
        self._folder.publish(aside, self._name)
        self._parts.clear()

    def _batches(self, records: Sequence[PartRecord]) -> Iterator[pa.RecordBatch]:
        """Yields the batches of all parts; first one without rows, which has no columns if no part knows these."""
        known = [record for record in records if record.size]
        if not known:
            yield pa.RecordBatch.from_pylist([], schema=pa.schema([]))
        for number, record in enumerate(known):
            part = pa.ipc.open_file(self._parts.read(record.file))
            if number == 0:
                yield pa.RecordBatch.from_arrays([pa.array([], field.type) for field in part.schema], schema=part.schema)
            for index in range(part.num_record_batches):
                yield part.get_batch(index)
