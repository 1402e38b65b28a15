"""The commands that say where the requests of a model go. What they need is imported when they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from runtime.admin.asking import AS_JSON, MODEL, asking, show_json

if TYPE_CHECKING:
    from runtime.admin.client import AdminClient
    from runtime.supervisor.state import ModelReport

OFF = click.option("--off", is_flag=True, help="Take it back.")


@click.command()
@MODEL
@click.argument("version", required=False)
@AS_JSON
@asking
def promote(client: AdminClient, model: str, version: str | None, as_json: bool) -> None:
    """Have VERSION of MODEL serve all requests, also if it was taken back; without VERSION, the newest."""
    _said(client.promote(model, version), as_json)


@click.command()
@MODEL
@AS_JSON
@asking
def rollback(client: AdminClient, model: str, as_json: bool) -> None:
    """Have the release serve that served before. What serves now does not, until it is promoted."""
    _said(client.rollback(model), as_json)


@click.command()
@MODEL
@click.argument("version", required=False)
@OFF
@AS_JSON
@asking
def pin(client: AdminClient, model: str, version: str | None, off: bool, as_json: bool) -> None:
    """Have VERSION of MODEL serve, whatever is dropped. VERSION may be a label."""
    _one_of(version, off, "VERSION")
    _said(client.say(model, "pin", {"to": version} if version else None), as_json)


@click.command()
@MODEL
@click.argument("shares", nargs=-1, metavar="[VERSION=WEIGHT]...")
@click.option("--by", default="", metavar="WHAT", help="Keep a client with one release, by header:NAME, parameter:NAME or column:NAME.")
@OFF
@AS_JSON
@asking
def split(client: AdminClient, model: str, shares: tuple[str, ...], by: str, off: bool, as_json: bool) -> None:
    """Share the requests of MODEL among releases, as in `pexdock split iris 0.1.0=90 canary=10`."""
    _one_of(shares, off, "VERSION=WEIGHT twice or more")
    _said(client.say(model, "split", {"weights": _weights(shares), "by": by} if shares else None), as_json)


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
    _said(client.say(model, "shadow", {"to": version, "percent": percent} if version else None), as_json)


@click.command()
@MODEL
@click.argument("label")
@click.argument("version", required=False)
@OFF
@AS_JSON
@asking
def label(client: AdminClient, model: str, label: str, version: str | None, off: bool, as_json: bool) -> None:
    """Have LABEL of MODEL stand for VERSION, which must be ready."""
    _one_of(version, off, "VERSION")
    _said(client.say(model, f"labels/{label}", {"version": version} if version else None), as_json)


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


def _said(model: ModelReport, as_json: bool) -> None:
    from runtime.admin.model_text import models_as_text, painted  # noqa: PLC0415

    show_json(model) if as_json else click.echo(painted(models_as_text([model])))
