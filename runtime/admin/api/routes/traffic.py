"""The traffic of a model, by noun: PUT sets a pin, split, shadow or label, and DELETE removes it. Runs on the supervisor's loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import FastAPI, Response
from pydantic import Field

from runtime.admin.api.context import AdminContext
from runtime.admin.api.fields import Label, Model, Name, RequestBody, Text, documented_as
from runtime.admin.api.openapi import document_responses
from runtime.admin.api.responses import json_response
from runtime.supervisor.rollout import traffic_policy
from runtime.supervisor.rollout.traffic_policy import TrafficPolicy
from runtime.supervisor.status.state import ModelReport

_WITHOUT_BODY = document_responses(ModelReport, 404, 409)
_WITH_BODY = document_responses(ModelReport, 400, 404, 409, 413)

_Weight = Annotated[int, documented_as(minimum=1, maximum=traffic_policy.WEIGHT_MAX)]


class PinOrder(RequestBody):
    """Sends all requests to one release, even if a newer one is dropped."""

    to: Name = Field(description="A version or a label.")


class SplitOrder(RequestBody):
    """Splits requests between releases."""

    weights: Annotated[dict[Name, _Weight], documented_as(minProperties=2)] = Field(
        description="Weight of each version or label; at least two."
    )
    by: Annotated[Text, documented_as(pattern=f"^({traffic_policy.BY_PATTERN})?$")] = Field(
        "",
        description="Keep clients on one release by the value of header:NAME, parameter:NAME or column:NAME; empty for none.",
    )


class ShadowOrder(RequestBody):
    """Mirrors requests to a release; its replies are compared and discarded."""

    to: Name = Field(description="A version or a label.")
    percent: Annotated[float, documented_as(exclusiveMinimum=0, maximum=100)] = Field(
        100.0, description="Share of the requests to mirror, in percent."
    )


class LabelOrder(RequestBody):
    """Points a label at a release that is ready."""

    version: Name


class PromoteOrder(RequestBody):
    """Promotes a release; without a version, the newest."""

    version: Name | None = Field(None, description="A version or a label.")


def add_traffic_routes(app: FastAPI, context: AdminContext) -> None:
    """Adds the routes that change a model's traffic. Each returns the report of the model; /models shows the effects of the change."""
    _add_policy_routes(app, context)
    _add_shadow_routes(app, context)
    _add_label_routes(app, context)
    _add_rollout_routes(app, context)


def _add_policy_routes(app: FastAPI, context: AdminContext) -> None:
    @app.put("/models/{model}/pin", summary="Pin a model to a release, even if a newer one is dropped", responses=_WITH_BODY)
    async def pin(model: Model, order: PinOrder) -> Response:
        return await _apply(context, model, lambda policy: traffic_policy.with_pin(policy, order.to), f"pinned to {order.to}")

    @app.delete("/models/{model}/pin", summary="Unpin a model, so that its newest release serves", responses=_WITHOUT_BODY)
    async def unpin(model: Model) -> Response:
        return await _apply(context, model, traffic_policy.without_pin, "unpinned")

    @app.put("/models/{model}/split", summary="Split traffic between releases by weight", responses=_WITH_BODY)
    async def split(model: Model, order: SplitOrder) -> Response:
        return await _apply(
            context, model, lambda policy: traffic_policy.with_split(policy, order.weights, order.by), "split by an operator"
        )

    @app.delete("/models/{model}/split", summary="Remove the traffic split", responses=_WITHOUT_BODY)
    async def unsplit(model: Model) -> Response:
        return await _apply(context, model, traffic_policy.without_split, "the split was removed")


def _add_shadow_routes(app: FastAPI, context: AdminContext) -> None:
    @app.put("/models/{model}/shadow", summary="Mirror requests to a release and compare its replies", responses=_WITH_BODY)
    async def shadow(model: Model, order: ShadowOrder) -> Response:
        reason = f"{order.percent:g} % mirrored to {order.to}"
        return await _apply(context, model, lambda policy: traffic_policy.with_shadow(policy, order.to, order.percent), reason)

    @app.delete("/models/{model}/shadow", summary="Stop mirroring requests", responses=_WITHOUT_BODY)
    async def unshadow(model: Model) -> Response:
        return await _apply(context, model, traffic_policy.without_shadow, "mirroring was stopped")


def _add_label_routes(app: FastAPI, context: AdminContext) -> None:
    @app.put("/models/{model}/labels/{label}", summary="Point a label at a release that is ready", responses=_WITH_BODY)
    async def label(model: Model, label: Label, order: LabelOrder) -> Response:
        await context.fleet.orders.move_label(model, label, order.version)
        return json_response(context.model_report(model))

    @app.delete("/models/{model}/labels/{label}", summary="Remove a label", responses=_WITHOUT_BODY)
    async def unlabel(model: Model, label: Label) -> Response:
        await context.fleet.orders.move_label(model, label, None)
        return json_response(context.model_report(model))


def _add_rollout_routes(app: FastAPI, context: AdminContext) -> None:
    @app.post("/models/{model}/promote", summary="Send all traffic to a release, even if it was rolled back", responses=_WITH_BODY)
    async def promote(model: Model, order: PromoteOrder) -> Response:
        await context.fleet.orders.promote(model, order.version)
        return json_response(context.model_report(model))

    @app.post("/models/{model}/rollback", summary="Roll a model back to the previous release", responses=_WITHOUT_BODY)
    async def rollback(model: Model) -> Response:
        await context.fleet.orders.roll_back(model)
        return json_response(context.model_report(model))


async def _apply(context: AdminContext, model: str, change: Callable[[TrafficPolicy], TrafficPolicy], reason: str) -> Response:
    await context.fleet.orders.change_policy(model, change, reason)
    return json_response(context.model_report(model))
