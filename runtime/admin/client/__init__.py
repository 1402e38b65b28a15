"""Owns the client of the admin API: its transports, its methods, and the progress of deployments and changes.

It may import `runtime.admin.schemas`, `runtime.supervisor.status` and `base`, but neither `runtime.admin.api` nor `runtime.admin.server`.
The commands in `runtime.cli` call it; it blocks, and prints nothing.
"""
