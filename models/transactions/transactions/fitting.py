"""Generates transactions, and fits and saves models of them."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import skops.io
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

ROWS = 4_000
SEED = 3166


def generate(place: int) -> pl.DataFrame:
    """Returns transactions of one place, the same in every run. The signs of fraud differ from place to place."""
    random = np.random.default_rng([SEED, place])
    amount = random.lognormal(4 + 0.2 * place, 1, ROWS).round(2)
    hour = random.integers(0, 24, ROWS, dtype=np.int8)
    abroad = random.random(ROWS) < 0.1
    merchant = random.choice(["grocery", "travel", "electronics"], ROWS, p=[0.6, 0.15, 0.25])
    odds = 0.004 * amount + 1.5 * abroad + (1.0 + 0.3 * place) * (hour < 6) + 1.0 * (merchant == "electronics") - 4.5
    fraud = random.random(ROWS) < 1 / (1 + np.exp(-odds))
    return pl.DataFrame({"amount": amount, "hour": hour, "abroad": abroad, "merchant": merchant.tolist(), "fraud": fraud})


def fit(data: pl.DataFrame) -> Pipeline:
    """Fits a logistic regression on scaled amounts and one-hot encoded hours and merchants."""
    columns = make_column_transformer(
        (StandardScaler(), ["amount"]),
        (OneHotEncoder(handle_unknown="ignore"), ["hour", "merchant"]),
        ("passthrough", ["abroad"]),
    )
    return make_pipeline(columns, LogisticRegression(max_iter=1_000)).fit(data.drop("fraud"), data["fraud"])


def save(model: Pipeline, target: Path) -> None:
    """Writes a temporary file and renames it, so that a worker never reads an incomplete model."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    skops.io.dump(model, temporary)
    temporary.rename(target)
