"""Pexdock's own processes and its command: the supervisor, the front door, the admin API, the build.

It imports `base`, and no model. Nothing imports it: `python -m runtime` and the command `pexdock` start it, and `base.dev_server` starts
its front door by name.
"""
