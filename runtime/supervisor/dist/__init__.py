"""Watches dist/ for complete files, and mirrors it from an object store.

It may import `base`, `runtime.pex` and the modules directly in `runtime`. The supervisor calls it, and the fleet acts on its events.
"""
