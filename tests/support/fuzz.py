"""`python fuzz.py TARGET RUNS`: feeds a decoder with bytes that atheris derives from valid ones. Status 0: every failure was an allowed
one.

This is a process of its own, since atheris never returns, and since a failure in native code ends the process.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris
import pyarrow as pa
import pyarrow.parquet as pq

with atheris.instrument_imports(include=["base.ipc", "runtime.front.codecs"]):
    import hostile_bodies
    from base.errors import PexdockError
    from base.ipc import failure, frames, protocol
    from base.ipc.control import ControlStream
    from parquet_bombs import GOOD_PAGE, words
    from runtime.front.codecs.decoder import RowDecoder, decode_body
    from runtime.front.codecs.parquet import page_header

_DECODER = RowDecoder(hostile_bodies.SCHEMA)
_READER = frames.FrameReader(hostile_bodies.SCHEMA)


def _plain(data: bytes) -> None:
    _READER.read_numeric_batch(memoryview(data), data[0] if data else 0, 2)


def _frame(data: bytes) -> None:
    _READER.read_frame(memoryview(data), 0).validate(full=True)


def _lines(data: bytes) -> None:
    ControlStream().feed_bytes(data)


def _body(media: str) -> Callable[[bytes], None]:
    return lambda data: _DECODER.batches.build_record_batch([decode_body(_DECODER, media, data)]).validate(full=True)


def _page(data: bytes) -> None:
    try:
        page_header.read_page_header(data, 0)
    except ValueError:
        pass


def _parquet(**options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(hostile_bodies.good(pa.string()), sink, compression="snappy", **options)
    return sink.getvalue()


_FRAME = hostile_bodies.good().to_batches()[0].serialize().to_pybytes()
_STREAM = hostile_bodies.stream(hostile_bodies.good())

TARGETS: dict[str, tuple[Callable[[bytes], object], list[bytes]]] = {
    "protocol": (
        protocol.unpack_message,
        [protocol.pack_message(protocol.Reply(1, 2, 3, 4)), protocol.pack_message(protocol.Failure(1, b"{}", 0))],
    ),
    "control": (_lines, [b'{"type":"drain"}\n', b'{"type":"table_applied","generation":1}\n']),
    "failure": (failure.decode_error, [failure.encode_error(PexdockError("x"))]),
    "plain": (_plain, [_FRAME]),
    "frames": (_frame, [_FRAME]),
    "json": (_body("application/json"), [b'[{"a":1.5,"s":"x"}]']),
    "csv": (_body("text/csv"), [b'a,s\n1.5,"x"\n']),
    "arrow": (_body("application/vnd.apache.arrow.stream"), [_STREAM]),
    "parquet": (
        _body("application/vnd.apache.parquet"),
        [_parquet(**each) for each in ({}, {"use_dictionary": False}, {"version": "1.0"})],
    ),
    "pages": (_page, [GOOD_PAGE, *words(10)]),
}


def main() -> None:
    """Runs the fuzzer. Does not return: atheris ends the process."""
    target, runs = sys.argv[1:]
    decoded, seeds = TARGETS[target]

    def one(data: bytes) -> None:
        try:
            decoded(data)
        except (PexdockError, frames.pa.ArrowException):
            pass

    with tempfile.TemporaryDirectory(prefix="pexdock-fuzz-") as corpus:
        for number, seed in enumerate(seeds):
            Path(corpus, str(number)).write_bytes(seed)
        atheris.Setup([sys.argv[0], corpus, f"-runs={runs}", "-max_len=4096", "-rss_limit_mb=4096", "-verbosity=0"], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
