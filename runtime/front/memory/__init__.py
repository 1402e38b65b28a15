"""Owns the shared memory of the front door: its budget, the slots of batches and replies, and the buffers of large request bodies.

It may import only `base`, and nothing else of the front door. The links to workers take slots, the codecs read body buffers, and http
fills body buffers.
"""
