"""Predicts the sepal length of an iris from the three other measurements. The worker trains the model at its first use."""

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
    """Measurements of a flower in centimetres."""

    sepal_width: pl.Float64 = Field(examples=[3.5])
    petal_length: pl.Float64 = Field(examples=[1.4])
    petal_width: pl.Float64 = Field(examples=[0.2])


class Package(Schema):
    """The name of a package."""

    package: pl.String = Field(examples=["scikit-learn"])


@functools.cache
def model() -> Pipeline:
    """Returns the model, fitted once per process on the data that scikit-learn includes."""
    data = np.asarray(load_iris(return_X_y=True)[0])
    return make_pipeline(StandardScaler(), LinearRegression()).fit(data[:, 1:], data[:, 0])


@svc.endpoint(path="/predictions/legacy_iris")
def predict(records_df: Flower.DataFrame) -> pl.Series:
    """Predicts the sepal length in centimetres."""
    return pl.Series(model().predict(records_df.to_numpy()))


@svc.endpoint(path="/versions/legacy_iris")
def versions(records_df: Package.DataFrame) -> list[str | None]:
    """Returns the version of each package in this worker; null if it is not installed."""
    return [version_of(package) for package in records_df["package"]]


def version_of(package: str) -> str | None:
    """Returns the version in the metadata of a package; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None
