"""The model behind Ray Serve. BATCH: requests in a batch at most, 1 for none."""

import os
import signal
import tempfile

os.environ["RAY_SERVE_THROUGHPUT_OPTIMIZED"] = "1"  # read at import: no thread beside the loop, less logging

import ray
from linear.fitted import as_array, fit
from ray import serve

BATCH = int(os.environ["BATCH"])


@serve.deployment(num_replicas=1, max_ongoing_requests=1024, ray_actor_options={"num_cpus": 1})
class Alone:
    """One request at a time."""

    def __init__(self):
        self.model = fit()

    async def __call__(self, request):
        """Rows as objects."""
        return {"predictions": self.model.predict(as_array(await request.json())).tolist()}


@serve.deployment(num_replicas=1, max_ongoing_requests=1024, ray_actor_options={"num_cpus": 1})
class Together:
    """Requests gathered by Ray Serve, computed with one call of the model."""

    def __init__(self):
        self.model = fit()

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=0.001)
    async def predict(self, requests):
        """A list of requests, each a list of rows."""
        predictions = self.model.predict(as_array([row for rows in requests for row in rows])).tolist()
        taken = iter(predictions)
        return [{"predictions": [next(taken) for _ in rows]} for rows in requests]

    async def __call__(self, request):
        """Rows as objects."""
        return await self.predict(await request.json())


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    # Sockets live in its folder, and their paths must be short.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100_000_000, _temp_dir=folder, _node_ip_address="127.0.0.1")
        serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PORT"])})
        serve.run((Alone if BATCH == 1 else Together).bind(), route_prefix="/predict")
        try:
            signal.pause()
        except KeyboardInterrupt:
            serve.shutdown()
            ray.shutdown()
