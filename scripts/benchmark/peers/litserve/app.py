"""The model on LitServe. BATCH: most requests in a batch; 1 disables batching."""

import os

import litserve
from linear.fitted import as_array, fit

BATCH = int(os.environ["BATCH"])


class Alone(litserve.LitAPI):
    """Serves one request at a time."""

    def setup(self, device):
        """Loads the model in the worker."""
        self.model = fit()

    def decode_request(self, request):
        """Converts the parsed body, rows as objects."""
        return request

    def predict(self, rows):
        """Predicts the rows of a request."""
        return self.model.predict(as_array(rows)).tolist()

    def encode_response(self, output):
        """Returns the response."""
        return {"predictions": output}


class Together(Alone):
    """Serves batches of requests by LitServe, with one call of the model."""

    def batch(self, inputs):
        """Returns the list of requests unchanged."""
        return inputs

    def predict(self, inputs):
        """Predicts a list of requests, each a list of rows."""
        predictions = self.model.predict(as_array([row for rows in inputs for row in rows])).tolist()
        taken = iter(predictions)
        return [[next(taken) for _ in rows] for rows in inputs]

    def unbatch(self, output):
        """Returns one response for each request."""
        return output


if __name__ == "__main__":
    api = Alone() if BATCH == 1 else Together(max_batch_size=BATCH, batch_timeout=0.001)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(host="127.0.0.1", port=int(os.environ["PORT"]), num_api_servers=1, log_level="warning", generate_client_file=False)
