"""Owns the admin API: its application (`api`), the server it runs on (`server`), a client of it (`client`), and what these share.

It may import `runtime.supervisor` and the layers below; `server` may also import `api`, while `client` imports neither.
`runtime.serve` creates the API and its server for a supervisor, and the commands in `runtime.cli` use the client.
"""
