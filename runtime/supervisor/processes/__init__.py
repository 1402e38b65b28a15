"""Starts, limits, restarts and replaces the child processes of the supervisor: front doors and workers.

It may import `base`, `runtime.state_machine` and `runtime.supervisor.host`, and nothing that decides about releases. The supervisor calls
it, and so do the releases that own workers.
"""
