"""What operators say about the requests of a model, by noun: PUT says it, DELETE takes it back. Runs on the supervisor's loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import FastAPI, Response
from pydantic import Field

from runtime.admin.api.context import AdminContext
from runtime.admin.api.fields import Label, Model, Name, Order, Text, documented_as
from runtime.admin.api.openapi import document_responses
from runtime.admin.api.responses import json_response
from runtime.supervisor.rollout import traffic_policy as words
from runtime.supervisor.rollout.traffic_policy import TrafficPolicy
from runtime.supervisor.status.state import ModelReport

_ERRORS = (404, 409)
_WITH_BODY = (400, 413)


class PinOrder(Order):
    """All requests to one release, whatever is dropped."""

    to: Name = Field(description="A version or a label.")


class SplitOrder(Order):
    """Requests shared among releases."""

    weights: Annotated[dict[Name, Annotated[int, documented_as(minimum=1, maximum=words.WEIGHT_MAX)]], documented_as(minProperties=2)] = (
        Field(description="Version or label → weight; two or more of them.")
    )
    by: Annotated[Text, documented_as(pattern=f"^({words.BY_PATTERN})?$")] = Field(
        "", description="What keeps a client with one release: header:NAME, parameter:NAME or column:NAME; nothing by default."
    )


class ShadowOrder(Order):
    """Requests copied to a release, whose answers are compared and dropped."""

    to: Name = Field(description="A version or a label.")
    percent: Annotated[float, documented_as(exclusiveMinimum=0, maximum=100)] = Field(100.0, description="Of the requests.")


class LabelOrder(Order):
    """A label moved to a release that is ready."""

    version: Name


class PromoteOrder(Order):
    """A release promoted; without a version the newest one."""

    version: Name | None = Field(None, description="A version or a label.")


def add_traffic_routes(app: FastAPI, powers: AdminContext) -> None:
    """The paths of all orders. Each answers with what is said of the model now; what follows from it, /models tells as it happens."""
    answers = document_responses(ModelReport, *_ERRORS)
    of_bodies = document_responses(ModelReport, *_ERRORS, *_WITH_BODY)

    def said(model: str, say: Callable[[TrafficPolicy], TrafficPolicy], why: str) -> Response:
        powers.fleet.rollouts.order(model, say, why)
        return json_response(powers.model_report(model))

    @app.put("/models/{model}/pin", summary="Have one release serve all, whatever is dropped", responses=of_bodies)
    async def pin(model: Model, order: PinOrder) -> Response:
        return said(model, lambda traffic: words.pinned(traffic, order.to), f"pinned to {order.to}")

    @app.delete("/models/{model}/pin", summary="Have the newest release serve again", responses=answers)
    async def unpin(model: Model) -> Response:
        return said(model, words.unpinned, "unpinned")

    @app.put("/models/{model}/split", summary="Share the requests among releases", responses=of_bodies)
    async def split(model: Model, order: SplitOrder) -> Response:
        return said(model, lambda traffic: words.split(traffic, order.weights, order.by), "split by an operator")

    @app.delete("/models/{model}/split", summary="Have one release serve all again", responses=answers)
    async def unsplit(model: Model) -> Response:
        return said(model, words.unsplit, "the split was ended")

    @app.put("/models/{model}/shadow", summary="Copy requests to a release, and compare its answers", responses=of_bodies)
    async def shadow(model: Model, order: ShadowOrder) -> Response:
        return said(model, lambda traffic: words.shadowed(traffic, order.to, order.percent), f"{order.percent:g} % copied to {order.to}")

    @app.delete("/models/{model}/shadow", summary="Copy nothing any more", responses=answers)
    async def unshadow(model: Model) -> Response:
        return said(model, words.unshadowed, "nothing is copied any more")

    _add_moves(app, powers)


def _add_moves(app: FastAPI, powers: AdminContext) -> None:
    answers = document_responses(ModelReport, *_ERRORS)
    of_bodies = document_responses(ModelReport, *_ERRORS, *_WITH_BODY)

    @app.put("/models/{model}/labels/{label}", summary="Move a label to a release that is ready", responses=of_bodies)
    async def label(model: Model, label: Label, order: LabelOrder) -> Response:
        powers.fleet.rollouts.label(model, label, order.version)
        return json_response(powers.model_report(model))

    @app.delete("/models/{model}/labels/{label}", summary="Remove a label", responses=answers)
    async def unlabel(model: Model, label: Label) -> Response:
        powers.fleet.rollouts.label(model, label, None)
        return json_response(powers.model_report(model))

    @app.post("/models/{model}/promote", summary="Have a release serve all, also one that was taken back", responses=of_bodies)
    async def promote(model: Model, order: PromoteOrder) -> Response:
        powers.fleet.rollouts.promote(model, order.version)
        return json_response(powers.model_report(model))

    @app.post("/models/{model}/rollback", summary="Have the release serve that served before", responses=answers)
    async def rollback(model: Model) -> Response:
        powers.fleet.rollouts.rollback(model)
        return json_response(powers.model_report(model))
