"""The names that authors of models import to declare and serve endpoints: `import base.service as svc`."""

from base.contexts.contexts import Contexts
from base.dev_server import Server, serve_installed
from base.endpoint.context import Context, Request, Response
from base.endpoint.dependencies import Depends
from base.endpoint.endpoint import BatchPolicy, Endpoint, endpoint
from base.endpoint.parameters import Parameters
from base.telemetry.emf import Emf

__all__ = [
    "BatchPolicy",
    "Context",
    "Contexts",
    "Depends",
    "Emf",
    "Endpoint",
    "Parameters",
    "Request",
    "Response",
    "Server",
    "endpoint",
    "serve_installed",
]
