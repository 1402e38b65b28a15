"""Connections of clients: requests read from bytes, responses written in their order, and limits on time and number.

It imports `app`, which answers requests, and below that only the types of requests and bodies. The server makes one `HttpConnection` for
each client that it accepts.
"""
