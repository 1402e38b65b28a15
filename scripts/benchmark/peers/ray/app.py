"""The model on Ray Serve. BATCH: most requests in a batch; 1 disables batching."""

import os
import signal
import tempfile

os.environ["RAY_SERVE_THROUGHPUT_OPTIMIZED"] = "1"  # read at import: no extra thread, less logging

import ray
from linear.fitted import as_array, fit
from ray import serve

BATCH = int(os.environ["BATCH"])


@serve.deployment(num_replicas=1, max_ongoing_requests=1024, ray_actor_options={"num_cpus": 1})
class Alone:
    """Serves one request at a time."""

    def __init__(self):
        self.model = fit()

    async def __call__(self, request):
        """Answers rows as objects."""
        return {"predictions": self.model.predict(as_array(await request.json())).tolist()}


@serve.deployment(num_replicas=1, max_ongoing_requests=1024, ray_actor_options={"num_cpus": 1})
class Together:
    """Serves batches of requests by Ray Serve, with one call of the model."""

    def __init__(self):
        self.model = fit()

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=0.001)
    async def predict(self, requests):
        """Predicts a list of requests, each a list of rows."""
        predictions = self.model.predict(as_array([row for rows in requests for row in rows])).tolist()
        taken = iter(predictions)
        return [{"predictions": [next(taken) for _ in rows]} for rows in requests]

    async def __call__(self, request):
        """Answers rows as objects."""
        return await self.predict(await request.json())


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    # The folder contains sockets, whose paths must be short.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100_000_000, _temp_dir=folder, _node_ip_address="127.0.0.1")
        serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PORT"])})
        serve.run((Alone if BATCH == 1 else Together).bind(), route_prefix="/predict")
        try:
            signal.pause()
        except KeyboardInterrupt:
            serve.shutdown()
            ray.shutdown()
