"""The commands that ask a running supervisor: `pexdock cache` and `pexdock refresh`. What they need is imported when they are used."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from base.errors import PexdockError

if TYPE_CHECKING:
    from runtime.admin.client import AdminClient


def _asking(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options that say which supervisor is meant, and `client` in their place."""

    @click.option("--dist-path", metavar="PATH", help="The folder that is served.")
    @click.option("--run-path", metavar="PATH", help="The run directory of the supervisor.")
    @click.option("--config", type=click.Path(path_type=Path), help="Settings file [default: pexdock.toml, if it is there].")
    @functools.wraps(command)
    def asking(dist_path: str | None, run_path: str | None, config: Path | None, **rest: object) -> None:
        from runtime import settings  # noqa: PLC0415
        from runtime.admin.client import AdminClient  # noqa: PLC0415

        chosen = settings.load({"dist_path": dist_path, "run_path": run_path}, config)
        command(AdminClient(chosen.run_path), **rest)

    return asking


@click.command()
@click.argument("model", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: an array of models.")
@_asking
def cache(client: AdminClient, model: str | None, as_json: bool) -> None:
    """Show what every worker of MODEL has in its caches; without MODEL, of all that serve."""
    import msgspec  # noqa: PLC0415

    from runtime.admin.table import caches_as_text  # noqa: PLC0415

    found = client.all_caches() if model is None else [client.caches(model)]
    click.echo(msgspec.json.format(msgspec.json.encode(found)) if as_json else caches_as_text(found) or "no model serves")


@click.command()
@click.argument("model")
@click.option("--all", "everything", is_flag=True, help="Refresh every entry of every endpoint.")
@click.option("--endpoint", metavar="NAME", help="Refresh this endpoint alone; its path will do, too.")
@click.option("--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="Refresh one entry alone: give all of its parameters.")
@_asking
def refresh(client: AdminClient, model: str, everything: bool, endpoint: str | None, parameters: tuple[str, ...]) -> None:
    """Have the workers of MODEL load again what their caches hold. What they hold serves until that is done.

    Say what is meant: --all, --endpoint, or each --parameter of one entry; the last two go together.
    """
    from runtime.admin.table import refresh_as_text  # noqa: PLC0415

    if everything == bool(endpoint or parameters):
        raise click.UsageError("say what to refresh: --all, or --endpoint NAME, --parameter NAME=VALUE, or both of these")
    done = client.refresh(model, endpoint, _named(parameters) or None)
    click.echo(refresh_as_text(done))
    if any(worker.error for worker in done.workers):
        raise PexdockError("not every worker answered, as said above")


def _named(parameters: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in parameters:
        name, equals, value = each.partition("=")
        if not equals or name in found:
            raise click.UsageError(f"--parameter {each}: " + ("it was given before" if equals else "write NAME=VALUE"))
        found[name] = value
    return found
