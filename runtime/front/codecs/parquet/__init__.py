"""Owns the decoding of Parquet files, whose headers are checked before Arrow reads them, because Arrow trusts their sizes.

May import runtime.front.codecs.arrow, runtime.front.codecs.values and base.errors.
Called by the decoder.
"""
