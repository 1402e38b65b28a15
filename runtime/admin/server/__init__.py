"""Owns the server of the admin API: its listeners, connections, TLS certificate and authentication.

It may import `runtime.admin.api`, `runtime.supervisor.host`, `runtime.http` and the layers below, but not `runtime.admin.client`.
`runtime.serve` opens the listeners, and the supervisor starts and closes the server.
"""
