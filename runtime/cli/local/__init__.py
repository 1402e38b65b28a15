"""Owns the commands that need no supervisor: they build, check, unpack and score with files of this machine.

It may import what the other commands import: the options in `runtime.cli.options`, and the packages below `runtime.cli`.
Only `runtime.cli.main` calls it.
"""
