"""HTTP as the front door and the admin server share it.

Owns accepting connections, TLS, rules for request heads, API keys, and problem documents with their OpenAPI schemas. Imports only `base`,
top-level modules of `runtime` and uvicorn. Called by `runtime.front`, `runtime.admin` and `runtime.cli`.
"""
