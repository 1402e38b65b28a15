"""Watches dist/ for complete files, and mirrors it from an object store.

May import `base`, `runtime.pex` and the modules directly in `runtime`. Called by the supervisor, and by the fleet, which acts on its events.
"""
