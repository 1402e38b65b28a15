"""`python -m forecast` serves this model from your own process, so that breakpoints in handlers work."""

import base.service as svc
from forecast.endpoints import forecast

if __name__ == "__main__":
    svc.Server().register(forecast).run()
