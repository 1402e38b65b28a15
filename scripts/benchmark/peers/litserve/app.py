"""The model behind LitServe. BATCH: requests in a batch at most, 1 for none."""

import os

import litserve
from linear.fitted import as_array, fit

BATCH = int(os.environ["BATCH"])


class Alone(litserve.LitAPI):
    """One request at a time."""

    def setup(self, device):
        """Runs in the worker."""
        self.model = fit()

    def decode_request(self, request):
        """The body is parsed already: rows as objects."""
        return request

    def predict(self, rows):
        """Rows of one request."""
        return self.model.predict(as_array(rows)).tolist()

    def encode_response(self, output):
        """The answer."""
        return {"predictions": output}


class Together(Alone):
    """Requests gathered by LitServe, computed with one call of the model."""

    def batch(self, inputs):
        """Keeps the list of requests as it is."""
        return inputs

    def predict(self, inputs):
        """A list of requests, each a list of rows."""
        predictions = self.model.predict(as_array([row for rows in inputs for row in rows])).tolist()
        taken = iter(predictions)
        return [[next(taken) for _ in rows] for rows in inputs]

    def unbatch(self, output):
        """One answer a request."""
        return output


if __name__ == "__main__":
    api = Alone() if BATCH == 1 else Together(max_batch_size=BATCH, batch_timeout=0.001)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(host="127.0.0.1", port=int(os.environ["PORT"]), num_api_servers=1, log_level="warning", generate_client_file=False)
