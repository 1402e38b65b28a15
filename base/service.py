"""What a model's author imports to declare and serve endpoints: `import base.service as svc`."""

from base.context import Context, Request, Response
from base.depends import Depends
from base.dev_server import Server, serve_installed
from base.emf import Emf
from base.endpoint import BatchPolicy, Endpoint, endpoint

__all__ = ["BatchPolicy", "Context", "Depends", "Emf", "Endpoint", "Request", "Response", "Server", "endpoint", "serve_installed"]
