"""Owns the decoding of request bodies and the encoding of response bodies, for each media type that the front door supports.

May import runtime.front.memory, base.schema, base.ipc.numeric_frames and base.errors; codecs of one media type import `values` only.
Called by runtime.front.requests, routing, scheduling and workers, and by runtime.front.openapi for the media types.
"""
