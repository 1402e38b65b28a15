"""The commands that change a model's traffic."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import click

from runtime.cli.options import AS_JSON, MODEL, ExitStatus, show_json, show_progress, with_client

if TYPE_CHECKING:
    from runtime.admin.client.client import AdminClient
    from runtime.admin.client.progress import Stage
    from runtime.supervisor.status.state import ModelReport, State


def _off(noun: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option("--off", is_flag=True, help=f"Remove the {noun}.")


def _waits(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options to wait until a change is in force."""
    wait = click.option(
        "--wait/--no-wait",
        default=True,
        show_default=True,
        help="Wait until every front door applies the change, and exit with its result.",
    )
    seconds = click.FloatRange(min=0)
    return wait(click.option("--timeout", "timeout_s", type=seconds, default=300.0, show_default=True, help="Seconds to wait.")(command))


@click.command()
@MODEL
@click.argument("version", required=False)
@AS_JSON
@_waits
@with_client
def promote(client: AdminClient, model: str, version: str | None, as_json: bool, **waits: Any) -> None:
    """Send all of MODEL's traffic to VERSION.

    VERSION may have been rolled back before. It is pinned if it is not the newest release. Without VERSION, the newest release gets all
    traffic, and no release is pinned any more. A mirror to VERSION ends.
    """
    _finish(client, client.promote(model, version), as_json, **waits)


@click.command()
@MODEL
@AS_JSON
@_waits
@with_client
def rollback(client: AdminClient, model: str, as_json: bool, **waits: Any) -> None:
    """Roll MODEL back to the release that served before.

    The current release does not serve again until it is promoted, if it is newer. A pin or a split ends.
    """
    _finish(client, client.rollback(model), as_json, **waits)


@click.command()
@MODEL
@click.argument("version", required=False)
@_off("pin")
@AS_JSON
@_waits
@with_client
def pin(client: AdminClient, model: str, version: str | None, off: bool, as_json: bool, **waits: Any) -> None:
    """Pin MODEL to VERSION.

    Newer releases do not serve then. VERSION may be a label.
    """
    _require_one(version, off, "VERSION")
    _finish(client, client.change_traffic(model, "pin", {"to": version} if version else None), as_json, **waits)


@click.command()
@MODEL
@click.argument("weights", nargs=-1, metavar="[VERSION=WEIGHT]...")
@click.option("--by", default="", metavar="KEY", help="Keep each client on one release, by header:NAME, parameter:NAME or column:NAME.")
@_off("split")
@AS_JSON
@_waits
@with_client
def split(client: AdminClient, model: str, weights: tuple[str, ...], by: str, off: bool, as_json: bool, **waits: Any) -> None:
    """Split MODEL's traffic between releases by weight.

    For example, `pexdock split iris 0.1.0=90 canary=10`; canary is a label.
    """
    _require_one(weights, off, "two or more VERSION=WEIGHT")
    body: dict[str, object] | None = {"weights": _parse_weights(weights), "by": by} if weights else None
    _finish(client, client.change_traffic(model, "split", body), as_json, **waits)


@click.command()
@MODEL
@click.argument("version", required=False)
@click.option("--percent", type=float, default=100.0, show_default=True, help="Percentage of requests to mirror.")
@_off("mirror")
@AS_JSON
@_waits
@with_client
def shadow(client: AdminClient, model: str, version: str | None, percent: float, off: bool, as_json: bool, **waits: Any) -> None:
    """Mirror MODEL's requests to VERSION and compare its replies.

    Clients never see the replies of VERSION. VERSION may be a label.
    """
    _require_one(version, off, "VERSION")
    order = client.change_traffic(model, "shadow", {"to": version, "percent": percent} if version else None)
    _finish(client, order, as_json, mirrors=not off, **waits)


@click.command()
@MODEL
@click.argument("label")
@click.argument("version", required=False)
@_off("label")
@AS_JSON
@_waits
@with_client
def label(client: AdminClient, model: str, label: str, version: str | None, off: bool, as_json: bool, **waits: Any) -> None:
    """Point LABEL of MODEL at VERSION.

    VERSION must be ready.
    """
    _require_one(version, off, "VERSION")
    _finish(client, client.change_traffic(model, f"labels/{label}", {"version": version} if version else None), as_json, **waits)


def _require_one(given: object, off: bool, what: str) -> None:
    if bool(given) == off:
        raise click.UsageError(f"give either {what} or --off")


def _parse_weights(weights: tuple[str, ...]) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in weights:
        name, _, weight = each.rpartition("=")
        if not name or not weight.isdecimal() or name in found:
            raise click.UsageError(f"{each}: " + ("it was given before" if name in found else "write VERSION=WEIGHT, with a whole number"))
        found[name] = int(weight)
    return found


def _finish(client: AdminClient, order: ModelReport, as_json: bool, *, wait: bool, timeout_s: float, mirrors: bool = False) -> None:
    """Shows the model's traffic once the change is in force. Exits with FAILED if it cannot be, and with TIMED_OUT after `timeout_s`.

    `mirrors` is true for a change that mirrors requests.
    """
    if not wait:
        _show(order, as_json)
        return
    try:
        _wait(client, order, as_json, time.monotonic() + timeout_s, mirrors=mirrors)
    except KeyboardInterrupt:
        show_progress("\nstopped waiting; the change stays in effect, see `pexdock models`")
        sys.exit(ExitStatus.INTERRUPTED)


def _wait(client: AdminClient, order: ModelReport, as_json: bool, deadline: float, *, mirrors: bool) -> NoReturn:
    from runtime.admin.client.follow import follow  # noqa: PLC0415
    from runtime.admin.client.progress import Outcome, Stage, mirror_stage, order_stage  # noqa: PLC0415

    last = order

    def stage_of(state: State) -> Stage:
        nonlocal last
        last = next((model for model in state.models if model.name == order.name), last)
        return mirror_stage(state, order) if mirrors else order_stage(state, order)

    with client.watch_models(lambda: deadline - time.monotonic()) as states:
        advice = "the change is saved, and takes effect when it starts again"
        end = follow(states, stage_of, Stage("waits"), lambda line: show_progress(f"{order.name}: {line}"), advice)
    _show(last, as_json)
    if end.outcome is Outcome.SERVES:
        sys.exit(ExitStatus.OK)
    if end.outcome is not None:
        click.echo(click.style(f"{order.name} {end.outcome.label}: {end.text}", fg="red"), err=True)
    sys.exit(ExitStatus.TIMED_OUT if end.outcome is Outcome.TIMEOUT else ExitStatus.FAILED)


def _show(model: ModelReport, as_json: bool) -> None:
    from runtime.cli.views.model import models_as_text, painted  # noqa: PLC0415

    show_json(model) if as_json else click.echo(painted(models_as_text([model])))
