"""How late ferries are: services written as one would who has read of such an API once, and nothing of this one.

`python ferries.py train` logs an MLflow run for each port into the folder of this file, `python ferries.py` serves them from there.
"""

import asyncio
import os
import shutil
import sys
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Annotated, Self

import mlflow
import polars as pl
from pydantic import BeforeValidator, ValidationInfo, field_validator
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline, make_pipeline

import base.artifacts as afs
import base.service as svc
from base.schema import Schema
from base.service import endpoint

HERE = Path(__file__).parent
PORTS = {("BAL", "BAL-01"): 1.0, ("BAL", "BAL-02"): 2.0, ("NOR", "NOR-01"): 3.0}


class Crossing(Schema):
    wind: pl.Float64
    waves: pl.Float64


class Delay(Schema):
    minutes: pl.Float64


class ByText(Enum):
    @classmethod
    def of(cls, text: str) -> Self:
        for each in cls:
            if each.value == text:
                return each
        raise ValueError(f"{text} is not known")


class Sea(ByText):
    BALTIC = "BAL"
    NORTH = "NOR"


class Port(ByText):
    BALTIC_1 = "BAL-01"
    BALTIC_2 = "BAL-02"
    NORTH_1 = "NOR-01"

    def lies_in(self, sea: Sea) -> bool:
        return self.value.partition("-")[0] == sea.value


class FerrySpec(afs.ArtifactSpec[Pipeline]):
    """The fields' names lack underscores that the path has."""

    sea1: Annotated[Sea, BeforeValidator(Sea.of)]
    port2: Port

    @field_validator("port2", mode="before")
    @classmethod
    def _in_its_sea(cls, text: str, info: ValidationInfo) -> Port:
        sea, port = info.data.get("sea1"), Port.of(text)
        if not isinstance(sea, Sea) or not port.lies_in(sea):
            raise ValueError(f"{text} does not lie in {sea}")
        return port


@svc.endpoint(
    path="/delays/{run}/{experiment}",
    batch_max_delay_ms=10,
    batch_max_size=64,
    cache_config=afs.CacheConfig(
        client=afs.FsClient(base_path=HERE, path_template="/runs/{experiment}/{run}/artifacts/model"),
        load_model=mlflow.sklearn.load_model,
    ),
)
def handle(model: Pipeline, records_df: pl.DataFrame) -> pl.DataFrame:
    return model.predict(X=records_df)


by_run = handle
constant = make_pipeline(LinearRegression()).fit(pl.DataFrame({"wind": [0.0, 1.0], "waves": [0.0, 1.0]}), [7.0, 7.0])


@svc.endpoint(path="/constant")
def handle(records_df: pl.DataFrame) -> pl.DataFrame:
    return constant.predict(X=records_df)


without_cache = handle


@endpoint(path="/minutes", batch_max_delay_ms=0)
def handle(records_df: Crossing.DataFrame) -> Delay.DataFrame:
    return records_df.select(minutes=pl.Series(constant.predict(X=records_df)))


with_output = handle


def ferries(**more: object) -> afs.CacheConfig:
    return afs.CacheConfig(
        client=afs.FsClient(base_path=HERE / "ports", path_template="/{sea_1}/{port_2}/artifacts/model"),
        load_model=mlflow.sklearn.load_model,
        **more,
    )


@svc.endpoint(path="/nightly/{sea_1}/{port_2}/", cache_config=ferries(schedule=afs.Cron("0 0 * * *")))
def handle(model: Pipeline, records_df: pl.DataFrame) -> pl.DataFrame:
    return model.predict(X=records_df)


nightly = handle


@svc.endpoint(path="/hourly/{port_2}/{sea_1}/", cache_config=ferries(interval=timedelta(hours=1)))
def handle(model: Pipeline, records_df: pl.DataFrame) -> pl.DataFrame:
    return model.predict(X=records_df)


hourly = handle


@svc.endpoint(path="/checked/{sea_1}/{port_2}/", cache_config=ferries(spec=FerrySpec), validate_artifact_params=True)
def handle(model: Pipeline, records_df: pl.DataFrame) -> pl.DataFrame:
    return model.predict(X=records_df)


checked = handle


def train() -> None:
    """A run for each port, at the places where the services look for them."""
    frame = pl.DataFrame({"wind": [0.0, 1.0, 0.0], "waves": [0.0, 0.0, 1.0]})
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"  # else MLflow wants a database
    mlflow.set_tracking_uri(f"file:{HERE}/tracking")
    experiment = mlflow.create_experiment("ferries", artifact_location=f"file:{HERE}/runs/ferries")
    for (sea, port), factor in PORTS.items():
        model = make_pipeline(LinearRegression()).fit(frame, [0.0, factor, 10 * factor])
        with mlflow.start_run(experiment_id=experiment) as run:
            mlflow.sklearn.save_model(model, HERE / "model" / port, pip_requirements=[])
            mlflow.log_artifacts(HERE / "model" / port, artifact_path="model")
        shutil.copytree(HERE / "runs" / "ferries" / run.info.run_id, HERE / "ports" / sea / port)


async def main() -> None:
    server = svc.Server(port=0)
    for each in (by_run, without_cache, with_output, nightly, hourly, checked):
        server.register(endpoint=each)
    await server.serve()


if __name__ == "__main__":
    train() if sys.argv[1:] == ["train"] else asyncio.run(main())
