"""Owns the decoding of Arrow streams and of Arrow tables, with the limits on what they may expand to.

May import runtime.front.codecs.values and rows, runtime.front.memory, base.schema, base.ipc and base.errors.
Called by the decoder, by the Parquet codec for tables, and by runtime.front.workers for reply frames.
"""
