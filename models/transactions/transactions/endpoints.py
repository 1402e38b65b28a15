"""Predicts the probability of fraud for card transactions, with the model of a subdivision or, failing that, of its country."""

import re
from typing import Self

import polars as pl
import skops.io
from pydantic import BaseModel, Field, model_validator
from sklearn.pipeline import Pipeline

import base.artifacts as afs
import base.service as svc
from base.schema import Schema

store = afs.FsClient(base_path="transactions", path_template=["/{country}/{subdivision}/model.skops", "/{country}/model.skops"])

FLAGGED_FROM = 0.5


class Place(BaseModel):
    """ISO 3166-1 and 3166-2 codes that match. Otherwise a subdivision could be served by another country's model."""

    country: str
    subdivision: str

    @model_validator(mode="after")
    def _check_match(self) -> Self:
        if not re.fullmatch(r"[A-Z]{2}", self.country):
            raise ValueError(f"{self.country!r} is not an ISO 3166-1 code of two capital letters")
        if not re.fullmatch(rf"{self.country}-[A-Z0-9]{{1,3}}", self.subdivision):
            raise ValueError(f"{self.subdivision!r} is not a subdivision of {self.country}")
        return self


class Transaction(Schema):
    """One payment by card."""

    amount: pl.Float64 = Field(description="in the country's currency", examples=[950.0])
    hour: pl.Int8 = Field(description="local time, 0 to 23", examples=[3])
    abroad: pl.Boolean = Field(description="the card is from another country", examples=[True])
    merchant: pl.String = Field(description="grocery, travel, electronics; any other is allowed, too", examples=["electronics"])


class Rating(Schema):
    """The rating of a transaction."""

    fraud: pl.Float64 = Field(description="probability")
    flagged: pl.Boolean


def load(path: str) -> Pipeline:
    """Loads a pipeline. skops refuses types that are not of scikit-learn, so a file cannot run code."""
    return skops.io.load(path)


@svc.endpoint(
    path="/predictions/transactions/{country}/{subdivision}/",
    cache_config=afs.CacheConfig(client=store, load_model=load, spec=Place, max_size=32),
    validate_artifact_params=True,
)
def predict(model: Pipeline, records_df: Transaction.DataFrame) -> Rating.DataFrame:
    """Predicts the probability of fraud for each transaction."""
    fraud = pl.Series(model.predict_proba(records_df)[:, 1])
    return pl.DataFrame({"fraud": fraud, "flagged": fraud >= FLAGGED_FROM})
