"""`python -m forecast` serves this model from your own process, so that breakpoints in handlers work."""

import base.service as svc
from forecast.endpoints import contexts, forecast

if __name__ == "__main__":
    server = svc.Server().register(forecast)
    for endpoint in contexts.endpoints:
        server.register(endpoint)
    server.run()
