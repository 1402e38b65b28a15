"""Pex files: reads them without running them, checks a model against a base, unpacks both, and puts files into dist/.

May import `base`, `runtime.atomic_file` and nothing else of `runtime`. Called by the supervisor, the build, the admin API and the command
line; the start script of an image calls `runtime.pex.unpack` alone.
"""
