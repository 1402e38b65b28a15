"""The communication between supervisor, front doors and workers: messages, frames, segments and channels.

Imports only base.errors and base.process. Called by base.worker, and by the supervisor and the front door in runtime.
"""
