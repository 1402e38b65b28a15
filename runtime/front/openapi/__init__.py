"""The OpenAPI document of all endpoints in force. Pure: knows endpoint specs, and neither processes nor connections.

Owns the operations, the JSON Schema of rows, and the components that they share. Imports `base`, `runtime.http` and `runtime.front.codecs`.
Called by the health pages of the front door and, for the schema of rows, by the command line.
"""
