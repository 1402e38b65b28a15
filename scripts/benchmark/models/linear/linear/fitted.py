"""The model. All servers import this module, so that they compute the same."""

import numpy as np
from sklearn.linear_model import LinearRegression

COLUMNS = ("width", "length", "depth")


def fit() -> LinearRegression:
    """Returns the fitted model, always with the same coefficients. `predict` takes float64 of shape (rows, 3), and returns (rows,)."""
    features = np.arange(300, dtype=np.float64).reshape(100, 3) % 7
    target = features @ np.array([0.5, -1.25, 3.0]) + np.sin(np.arange(100.0)) + 4.0
    return LinearRegression().fit(features, target)


def as_array(rows: list[dict[str, float]]) -> np.ndarray:
    """Converts rows from JSON to an array of shape (rows, 3), for servers that leave JSON to the author."""
    return np.array([[row["width"], row["length"], row["depth"]] for row in rows], dtype=np.float64)
