"""Pex files: reads them without running them, checks a model against a base, unpacks both, and puts files into dist/.

It may import `base`, `runtime.atomic_file` and nothing else of `runtime`. The supervisor, the build, the admin API and the command line
call it. The start script of an image calls only `runtime.pex.unpack`.
"""
