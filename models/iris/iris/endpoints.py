"""Predicts the sepal length of an iris from the three other measurements, with a model logged by MLflow."""

import importlib.metadata

import polars as pl
from mlflow.sklearn import load_model
from pydantic import Field
from sklearn.pipeline import Pipeline

import base.artifacts as afs
import base.service as svc
from base.schema import Schema

store = afs.FsClient(base_path="mlflow/iris", path_template="/{run_id}/artifacts/{model_id}")


class Flower(Schema):
    """Measurements of a flower in centimetres."""

    sepal_width: pl.Float64 = Field(examples=[3.5])
    petal_length: pl.Float64 = Field(examples=[1.4])
    petal_width: pl.Float64 = Field(examples=[0.2])


class Package(Schema):
    """The name of a package."""

    package: pl.String = Field(examples=["scikit-learn"])


@svc.endpoint(
    path="/predictions/iris/{run_id}/{model_id}",
    batch_max_delay_ms=10,
    batch_max_size=64,
    cache_config=afs.CacheConfig(client=store, load_model=load_model),
)
def predict(model: Pipeline, records_df: Flower.DataFrame) -> pl.Series:
    """Predicts the sepal length in centimetres."""
    return pl.Series(model.predict(records_df))


@svc.endpoint(path="/versions/iris")
def versions(records_df: Package.DataFrame) -> list[str | None]:
    """Returns the version of each package in this worker; null if it is not installed."""
    return [version_of(package) for package in records_df["package"]]


def version_of(package: str) -> str | None:
    """Returns the version in the metadata of a package; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None
