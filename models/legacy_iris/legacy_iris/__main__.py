"""`python -m legacy_iris` serves this model from your own process, so that a breakpoint in a handler stops there."""

import base.service as svc
from legacy_iris.endpoints import predict, versions

if __name__ == "__main__":
    svc.Server().register(predict).register(versions).run()
