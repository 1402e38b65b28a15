"""Owns the decoding of Arrow streams and of Arrow tables, with the limits on what they may expand to.

May import runtime.front.codecs.values, base.schema, base.ipc.numeric_frames and base.errors.
Called by the decoder, by the Parquet codec for tables, and by runtime.front.workers for reply frames.
"""
