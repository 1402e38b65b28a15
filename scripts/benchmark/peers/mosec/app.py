"""The model on Mosec. BATCH: most requests in a batch; 1 disables batching."""

import os
import sys

import msgspec
from linear.fitted import as_array, fit
from mosec import Server, Worker

BATCH = int(os.environ["BATCH"])


class Alone(Worker):
    """Serves one request at a time."""

    def __init__(self):
        super().__init__()
        self.model = fit()
        self.decode, self.encode = msgspec.json.Decoder().decode, msgspec.json.Encoder().encode

    def deserialize(self, data):
        """Converts the body, rows as objects."""
        return self.decode(data)

    def serialize(self, data):
        """Returns the response."""
        return self.encode(data)

    def forward(self, data):
        """Predicts the rows of a request."""
        return {"predictions": self.model.predict(as_array(data)).tolist()}


class Together(Alone):
    """Serves batches of requests by Mosec, with one call of the model."""

    def forward(self, data):
        """Predicts a list of requests, each a list of rows."""
        predictions = self.model.predict(as_array([row for rows in data for row in rows])).tolist()
        answers, start = [], 0
        for rows in data:
            answers.append({"predictions": predictions[start : start + len(rows)]})
            start += len(rows)
        return answers


if __name__ == "__main__":
    sys.argv += ["--address", "127.0.0.1", "--port", os.environ["PORT"], "--log-level", "warning"]
    server = Server()
    if BATCH == 1:
        server.append_worker(Alone, num=1)
    else:
        server.append_worker(Together, num=1, max_batch_size=BATCH, max_wait_time=1)
    server.run()
