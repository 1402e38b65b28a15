"""Owns the declaration of endpoints: the `@endpoint` decorator, what a handler is called with, paths, and the discovery of a release.

May import base.artifacts, base.schema, base.ipc.control and base.errors.
Called by authors through base.service, by base.worker, and by the front door for the forms that cross the wire.
"""
