"""The model in Triton's Python backend, which runs it in a process of its own."""

import numpy as np
import triton_python_backend_utils as triton
from linear.fitted import fit


class TritonPythonModel:
    """The class that the backend loads by its name."""

    def initialize(self, args):
        """Loads the model."""
        self.model = fit()

    def execute(self, requests):
        """Predicts one or more requests, each with rows of shape (rows, 3), with one call of the model."""
        rows = [triton.get_input_tensor_by_name(request, "rows").as_numpy() for request in requests]
        predictions = self.model.predict(np.concatenate(rows) if len(rows) > 1 else rows[0])
        predictions = predictions.reshape(-1, 1)  # the backend requires a dimension besides that of rows
        ends = np.cumsum([len(each) for each in rows])[:-1]
        return [triton.InferenceResponse([triton.Tensor("predictions", part)]) for part in np.split(predictions, ends)]
