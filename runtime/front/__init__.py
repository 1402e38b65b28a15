"""The front door: accepts HTTP requests for all models, and sends batches of them to the workers.

It owns its process, its server, and one package for each stage of a request: http, app, routing, scheduling, workers, requests, openapi,
codecs, telemetry and memory. Each of these imports only the packages after it, `base` and `runtime.http`. The supervisor and
`base.dev_server` start the front door with `python -m runtime.front`.
"""
