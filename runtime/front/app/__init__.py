"""The inference service, the ASGI application in front of it, and the pages for health and documentation.

It imports `routing` and the packages below it, and nothing of `http`. Connections submit plain predictions to the service, and give all
other requests to the application. The front door process applies routing tables to the service.
"""
