"""The endpoint of the benchmark, as an author of Pexdock writes it."""

import numpy as np
import polars as pl

import base.service as svc
from base.schema import Schema
from linear.fitted import fit

model = fit()


class Piece(Schema):
    """Measurements of a flower in centimetres."""

    width: pl.Float64
    length: pl.Float64
    depth: pl.Float64


@svc.endpoint(path="/predict")
def predict(records_df: Piece.DataFrame) -> np.ndarray:
    """Predicts one number for each row."""
    return model.predict(records_df.to_numpy())
