"""Webhooks: tell the servers of clients how their jobs go.

`sender` decides when to call, `call` makes a call, and `signature` signs it. May import `base`, `runtime.jobs` and `runtime.blocking`. The
runner calls it, and no job waits for it.
"""
