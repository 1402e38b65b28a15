"""The inference service, the ASGI application in front of it, and the pages of health and documentation.

It imports `routing` and the packages below it, and nothing of `http`. Connections submit plain predictions to the service, and give all
other requests to the application; the process of the front door applies routing tables.
"""
