"""`pexdock cache` and `pexdock refresh`: the caches of workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from base.errors import PexdockError
from runtime.cli.options import AS_JSON, MODEL, OPTIONAL_MODEL, show_json, with_client

if TYPE_CHECKING:
    from runtime.admin.client.client import AdminClient


@click.command()
@OPTIONAL_MODEL
@click.option("--json", "as_json", is_flag=True, help="Print JSON: an array of models.")
@with_client
def cache(client: AdminClient, model: str | None, as_json: bool) -> None:
    """List the cache entries of MODEL's workers.

    Without MODEL, list those of all serving models.
    """
    from runtime.cli.views.cache_table import caches_as_text  # noqa: PLC0415
    from runtime.cli.views.model import painted  # noqa: PLC0415

    found = client.all_caches() if model is None else [client.model_caches(model)]
    if as_json:
        show_json(found)
    else:
        click.echo(painted(caches_as_text(found)) or "no model serves")


@click.command()
@MODEL
@click.option("--all", "everything", is_flag=True, help="Refresh all entries of all endpoints.")
@click.option("--endpoint", metavar="NAME", help="Refresh only entries of this endpoint, by name or path.")
@click.option(
    "--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="Refresh only the entry with these parameters; repeat for each."
)
@AS_JSON
@with_client
def refresh(client: AdminClient, model: str, everything: bool, endpoint: str | None, parameters: tuple[str, ...], as_json: bool) -> None:
    """Refresh cache entries of MODEL.

    Workers serve the old entries until the new ones are loaded.

    Select the entries: --all, --endpoint, or --parameter for each parameter of one entry; --endpoint and --parameter can be combined.
    """
    from runtime.cli.views.cache_table import refresh_as_text  # noqa: PLC0415

    if everything == bool(endpoint or parameters):
        raise click.UsageError("select the entries to refresh: either --all, or --endpoint NAME, --parameter NAME=VALUE, or both of these")
    done = client.refresh(model, endpoint, _parse_parameters(parameters) or None)
    show_json(done) if as_json else click.echo(refresh_as_text(done))
    if any(worker.error for worker in done.workers):
        raise PexdockError("some workers failed to answer; see their errors above")


def _parse_parameters(parameters: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in parameters:
        name, equals, value = each.partition("=")
        if not equals or name in found:
            raise click.UsageError(f"--parameter {each}: " + ("it was given before" if equals else "write NAME=VALUE"))
        found[name] = value
    return found
