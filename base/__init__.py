"""The SDK for authors of models, and the process of a worker.

Imports no web framework and nothing of runtime. Called by models, which import base.service, base.artifacts, base.schema, base.errors and
base.testing, and by runtime, which shares base.ipc.
"""

__version__ = "0.2.0.dev0"
