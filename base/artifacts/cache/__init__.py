"""Owns the cache of one endpoint's models in a worker: lookups, loads, refreshes and evictions.

May import base.artifacts.config, spec and clients, base.telemetry, base.ipc.cache_control and base.errors.
Called by base.worker only; authors configure it with `afs.CacheConfig`.
"""
