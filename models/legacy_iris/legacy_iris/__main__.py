"""`python -m legacy_iris` serves this model from your own process, so that breakpoints in handlers work."""

import base.service as svc
from legacy_iris.endpoints import predict, versions

if __name__ == "__main__":
    svc.Server().register(predict).register(versions).run()
