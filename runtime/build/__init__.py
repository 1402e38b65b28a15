"""Builds pexes: base.pex from a checkout and its lock, and the pex of a model without the packages that base provides.

May import `base`, `runtime.pex` and `runtime.atomic_file`. Called by `pexdock build` and, as `python -m runtime.build`, by the start
script. Its package `locks` reads the locks of projects.
"""
