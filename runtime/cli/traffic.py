"""The commands that say where the requests of a model go. What they need is imported when they are used."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import click

from runtime.cli.options import AS_JSON, MODEL, asking, show_json

if TYPE_CHECKING:
    from runtime.admin.client.client import AdminClient
    from runtime.admin.client.progress import Stage
    from runtime.supervisor.status.state import ModelReport, State

OFF = click.option("--off", is_flag=True, help="Take it back.")


def waiting(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options that say whether it waits until its order is in force."""
    wait = click.option("--wait/--no-wait", default=True, show_default=True, help="End once every front door does it, and as that ends.")
    seconds = click.FloatRange(min=0)
    return wait(click.option("--timeout", "timeout_s", type=seconds, default=300.0, show_default=True, help="Seconds to wait.")(command))


@click.command()
@MODEL
@click.argument("version", required=False)
@AS_JSON
@waiting
@asking
def promote(client: AdminClient, model: str, version: str | None, as_json: bool, **waits: Any) -> None:
    """Have VERSION of MODEL serve all requests, also if it was taken back; without VERSION, the newest."""
    _done(client, client.promote(model, version), as_json, **waits)


@click.command()
@MODEL
@AS_JSON
@waiting
@asking
def rollback(client: AdminClient, model: str, as_json: bool, **waits: Any) -> None:
    """Have the release serve that served before. What serves now does not, until it is promoted."""
    _done(client, client.rollback(model), as_json, **waits)


@click.command()
@MODEL
@click.argument("version", required=False)
@OFF
@AS_JSON
@waiting
@asking
def pin(client: AdminClient, model: str, version: str | None, off: bool, as_json: bool, **waits: Any) -> None:
    """Have VERSION of MODEL serve, whatever is dropped. VERSION may be a label."""
    _one_of(version, off, "VERSION")
    _done(client, client.change_traffic(model, "pin", {"to": version} if version else None), as_json, **waits)


@click.command()
@MODEL
@click.argument("shares", nargs=-1, metavar="[VERSION=WEIGHT]...")
@click.option("--by", default="", metavar="WHAT", help="Keep a client with one release, by header:NAME, parameter:NAME or column:NAME.")
@OFF
@AS_JSON
@waiting
@asking
def split(client: AdminClient, model: str, shares: tuple[str, ...], by: str, off: bool, as_json: bool, **waits: Any) -> None:
    """Share the requests of MODEL among releases, as in `pexdock split iris 0.1.0=90 canary=10`."""
    _one_of(shares, off, "VERSION=WEIGHT twice or more")
    _done(client, client.change_traffic(model, "split", {"weights": _weights(shares), "by": by} if shares else None), as_json, **waits)


@click.command()
@MODEL
@click.argument("version", required=False)
@click.option("--percent", type=float, default=100.0, show_default=True, help="Of the requests.")
@OFF
@AS_JSON
@asking
def shadow(client: AdminClient, model: str, version: str | None, percent: float, off: bool, as_json: bool) -> None:
    """Copy requests of MODEL to VERSION and compare its answers, which no client sees. VERSION may be a label."""
    _one_of(version, off, "VERSION")
    _said(client.change_traffic(model, "shadow", {"to": version, "percent": percent} if version else None), as_json)


@click.command()
@MODEL
@click.argument("label")
@click.argument("version", required=False)
@OFF
@AS_JSON
@waiting
@asking
def label(client: AdminClient, model: str, label: str, version: str | None, off: bool, as_json: bool, **waits: Any) -> None:
    """Have LABEL of MODEL stand for VERSION, which must be ready."""
    _one_of(version, off, "VERSION")
    _done(client, client.change_traffic(model, f"labels/{label}", {"version": version} if version else None), as_json, **waits)


COMMANDS = (promote, rollback, pin, split, shadow, label)


def _one_of(given: object, off: bool, what: str) -> None:
    if bool(given) == off:
        raise click.UsageError(f"say {what}, or --off")


def _weights(shares: tuple[str, ...]) -> dict[str, int]:
    found: dict[str, int] = {}
    for share in shares:
        name, _, weight = share.rpartition("=")
        if not name or not weight.isdecimal() or name in found:
            raise click.UsageError(f"{share}: " + ("it was given before" if name in found else "write VERSION=WEIGHT, a whole number"))
        found[name] = int(weight)
    return found


def _done(client: AdminClient, order: ModelReport, as_json: bool, *, wait: bool, timeout_s: float) -> None:
    """Shows what is said of the model once that is done. Ends with 1 where it cannot be, and with 3 when the time is over."""
    if not wait:
        _said(order, as_json)
        return
    from runtime.admin.client.follow import INTERRUPTED  # noqa: PLC0415

    try:
        _wait(client, order, as_json, time.monotonic() + timeout_s)
    except KeyboardInterrupt:
        click.echo("\nnot followed any more; the order stands: see `pexdock models`", err=True)
        sys.exit(INTERRUPTED)


def _wait(client: AdminClient, order: ModelReport, as_json: bool, deadline: float) -> NoReturn:
    from runtime.admin.client.follow import exit_code, follow  # noqa: PLC0415
    from runtime.admin.client.progress import Outcome, order_stage  # noqa: PLC0415

    last = order

    def judged(state: State) -> Stage:
        nonlocal last
        last = next((model for model in state.models if model.name == order.name), last)
        return order_stage(state, order)

    with client.watch_models(lambda: deadline - time.monotonic()) as states:
        end = follow(states, judged, order.name, "is waited for", "the order is kept, and is done when it starts")
    good = end.outcome is Outcome.SERVES
    _said(last, as_json)
    if not good and end.outcome is not None:
        click.echo(click.style(f"{order.name} {end.outcome.value}: {end.text}", fg="red"), err=True)
    sys.exit(exit_code(end.outcome, good=good))


def _said(model: ModelReport, as_json: bool) -> None:
    from runtime.cli.views.model import models_as_text, painted  # noqa: PLC0415

    show_json(model) if as_json else click.echo(painted(models_as_text([model])))
