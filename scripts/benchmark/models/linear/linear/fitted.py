"""The model itself. Every server imports this file from its own environment, so that all of them compute the same."""

import numpy as np
from sklearn.linear_model import LinearRegression

COLUMNS = ("width", "length", "depth")


def fit() -> LinearRegression:
    """Fitted in an instant, and always to the same coefficients: `predict` takes float64 of shape (rows, 3), and returns (rows,)."""
    features = np.arange(300, dtype=np.float64).reshape(100, 3) % 7
    target = features @ np.array([0.5, -1.25, 3.0]) + np.sin(np.arange(100.0)) + 4.0
    return LinearRegression().fit(features, target)


def as_array(rows: list[dict[str, float]]) -> np.ndarray:
    """Rows as JSON has them, as an array of shape (rows, 3): what a server that leaves JSON to the author needs."""
    return np.array([[row["width"], row["length"], row["depth"]] for row in rows], dtype=np.float64)
