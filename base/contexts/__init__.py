"""Owns fitted contexts: models that one request fits and stores, and that later requests predict with.

May import base.endpoint, base.artifacts, base.schema and base.errors. Authors use it as `svc.Contexts`; to the worker, a context is an
artifact in the cache of an endpoint like any other.
"""
