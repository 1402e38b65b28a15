"""Defines the state that a supervisor reports, the state file, the feed of its followers and the announcement at the terminal.

It imports `rollout`, `host` and `runtime.pex`; most of it is data. The supervisor publishes the state, and the admin API, the commands and
the doctor read it.
"""
