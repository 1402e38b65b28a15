"""Client connections: reads requests, writes responses in order, and limits the time and the number of connections.

It imports `app`, which answers requests, and of the packages below that only the types of requests and bodies. The server makes one
`HttpConnection` for each client that it accepts.
"""
