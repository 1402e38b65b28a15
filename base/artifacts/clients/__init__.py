"""Owns the clients that find artifacts in a folder, an object store or an MLflow registry, and the downloads on disk.

May import base.errors only; libraries of a store are imported at the first use.
Called by base.artifacts.cache, and by the supervisor for the object store that holds dist/.
"""
