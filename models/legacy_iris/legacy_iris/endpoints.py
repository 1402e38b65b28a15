"""The length of an iris' sepals from the three other measures. The model is trained in the worker, at first use."""

import functools
import importlib.metadata

import numpy as np
import polars as pl
from pydantic import Field
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

import base.service as svc
from base.schema import Schema


class Flower(Schema):
    """Centimetres."""

    sepal_width: pl.Float64 = Field(examples=[3.5])
    petal_length: pl.Float64 = Field(examples=[1.4])
    petal_width: pl.Float64 = Field(examples=[0.2])


class Package(Schema):
    """A distribution of the worker's environment."""

    package: pl.String = Field(examples=["scikit-learn"])


@functools.cache
def model() -> Pipeline:
    """Fitted once a process, on the flowers that scikit-learn ships with."""
    data = np.asarray(load_iris(return_X_y=True)[0])
    return make_pipeline(StandardScaler(), LinearRegression()).fit(data[:, 1:], data[:, 0])


@svc.endpoint(path="/predictions/legacy_iris")
def predict(records_df: Flower.DataFrame) -> pl.Series:
    """The length of the sepals in centimetres."""
    return pl.Series(model().predict(records_df.to_numpy()))


@svc.endpoint(path="/versions/legacy_iris")
def versions(records_df: Package.DataFrame) -> list[str | None]:
    """The version of each package that this worker imports; null for one that it does not have."""
    return [version_of(package) for package in records_df["package"]]


def version_of(package: str) -> str | None:
    """As the package's metadata says it."""
    try:
        return importlib.metadata.version(package)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None
