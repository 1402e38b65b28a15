"""The front door: HTTP for the clients of all models, batches for their workers.

It owns its process, its server and, a package each, the way of a request: http, app, routing, scheduling, workers, requests, openapi,
codecs, telemetry, memory, each of which imports only those after it. Beside them it imports `base` and `runtime.http`. The supervisor
starts it by `python -m runtime.front`, and so does `base.dev_server`.
"""
