"""`python -m transactions` serves this model from your own process, so that breakpoints in handlers work."""

import base.service as svc
from transactions.endpoints import predict

if __name__ == "__main__":
    svc.Server().register(predict).run()
