"""What a model's author imports to declare and serve endpoints: `import base.service as svc`."""

from base.endpoint import BatchPolicy, Endpoint, endpoint
from base.server import Server, serve_installed

__all__ = ["BatchPolicy", "Endpoint", "Server", "endpoint", "serve_installed"]
