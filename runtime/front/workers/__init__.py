"""Owns the connections to workers: sends batches through shared memory, validates replies, and notices workers that fail or hang.

It may import requests, codecs, memory and telemetry of the front door, and nothing of scheduling, which it calls through `events`.
Scheduling sends work through `pool` and its links.
"""
