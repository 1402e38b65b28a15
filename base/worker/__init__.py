"""The process of a worker: its loop, its control channel to the supervisor, its warm-up and its caches.

Imports all other packages of base, and nothing of runtime. Called by `python -m base`, which a supervisor starts, and by the development
server, which runs a worker in the author's own process.
"""
