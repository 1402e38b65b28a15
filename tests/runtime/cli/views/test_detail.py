"""What `pexdock describe` shows of an endpoint."""

from __future__ import annotations

import polars as pl
from pydantic import Field

import base.service as svc
from base.endpoint.describe import describe_endpoint
from runtime.admin.api.routes.model_detail import endpoint_detail
from runtime.admin.schemas import ModelDetail
from runtime.cli.views.detail import detail_as_json, detail_as_text
from runtime.supervisor.status.state import ModelReport


class Options(svc.Parameters):
    horizon: int = Field(12, ge=1)
    region: str


@svc.endpoint("/next", batched=False)
def following(records_df: pl.DataFrame, options: Options) -> pl.DataFrame: ...


def test_parameters_of_the_query_and_whole_requests_are_shown() -> None:
    found = ModelDetail(ModelReport(name="sales"), [], [endpoint_detail(describe_endpoint(following))], [])
    text = detail_as_text(found)
    assert "POST /next  (following; unbatched)" in text
    assert "    query   horizon = 12, region (required)" in text
    (endpoint,) = detail_as_json(found)["endpoints"]
    assert endpoint["query"]["horizon"]["schema"]["minimum"] == 1
    assert endpoint["query"]["region"]["required"]
