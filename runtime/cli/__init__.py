"""Owns the command `pexdock`: its commands, in files by noun, their options and exit codes, and the text they print (`views`).

It may import every other package of `runtime`; commands import what they need when they run, so that `--help` and completion are fast.
Only `runtime.__main__` and the console script `pexdock` call it.
"""
