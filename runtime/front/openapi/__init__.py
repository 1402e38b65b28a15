"""The OpenAPI document of all endpoints in force. Pure: knows their words, and neither processes nor HTTP."""
