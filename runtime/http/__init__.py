"""HTTP as the front door and the admin server share it.

Owns accepting connections until the last one, TLS, rules for request heads, API keys, and problem documents with their OpenAPI schemas.
Imports only `base`, top-level modules of `runtime` and uvicorn. Called by `runtime.front`, `runtime.admin`, `runtime.cli` and
`runtime.supervisor`.
"""
