"""The length of an iris' sepals from the three other measures, with a model that MLflow logged."""

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
    """Centimetres."""

    sepal_width: pl.Float64 = Field(examples=[3.5])
    petal_length: pl.Float64 = Field(examples=[1.4])
    petal_width: pl.Float64 = Field(examples=[0.2])


class Package(Schema):
    """A distribution of the worker's environment."""

    package: pl.String = Field(examples=["scikit-learn"])


@svc.endpoint(
    path="/predictions/iris/{run_id}/{model_id}",
    batch_max_delay_ms=10,
    batch_max_size=64,
    cache_config=afs.CacheConfig(client=store, load_model=load_model),
)
def predict(model: Pipeline, records_df: Flower.DataFrame) -> pl.Series:
    """The length of the sepals in centimetres."""
    return pl.Series(model.predict(records_df))


@svc.endpoint(path="/versions/iris")
def versions(records_df: Package.DataFrame) -> list[str | None]:
    """The version of each package that this worker imports; null for one that it does not have."""
    return [version_of(package) for package in records_df["package"]]


def version_of(package: str) -> str | None:
    """As the package's metadata says it."""
    try:
        return importlib.metadata.version(package)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None
