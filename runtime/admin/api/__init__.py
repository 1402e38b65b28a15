"""Owns the admin API as an ASGI application: its resources, request bodies, limits, error responses and OpenAPI document.

It may import `runtime.admin.schemas`, `runtime.supervisor` and the layers below, but neither the server nor the client.
`runtime.serve` creates the application; `runtime.admin.server` runs it on the supervisor's event loop.
"""
