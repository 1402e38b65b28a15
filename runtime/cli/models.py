"""`pexdock models`, `pexdock cache` and `pexdock refresh`. What they need is imported when they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from base.errors import PexdockError
from runtime.cli.options import ADMIN_VARIABLE, AS_JSON, MODEL, OPTIONAL_MODEL, asking, client_of, settled, show_json

if TYPE_CHECKING:
    from runtime.admin.client.client import AdminClient
    from runtime.settings import Settings


@click.command()
@AS_JSON
@click.option("--admin", metavar="URL", envvar=ADMIN_VARIABLE, help="Ask a supervisor over TCP; --admin-token-path says with what.")
@settled
def models(settings: Settings, as_json: bool, admin: str | None) -> None:
    """Show what is served, what was refused and why."""
    from runtime.cli.views import release_table  # noqa: PLC0415
    from runtime.cli.views.model import models_as_text, painted  # noqa: PLC0415
    from runtime.supervisor.status.state_file import read_state  # noqa: PLC0415

    # The state file says the same, and can be read also where a supervisor does not answer.
    found = client_of(settings, admin).models() if admin else read_state(settings.run_path, settings.dist_path)
    if as_json:
        show_json(found)
    else:
        click.echo(painted("\n\n".join(part for part in (release_table.as_table(found), models_as_text(found.models)) if part)))


@click.command()
@OPTIONAL_MODEL
@click.option("--json", "as_json", is_flag=True, help="Print JSON: an array of models.")
@asking
def cache(client: AdminClient, model: str | None, as_json: bool) -> None:
    """Show what every worker of MODEL has in its caches; without MODEL, of all that serve."""
    from runtime.cli.views.cache_table import caches_as_text  # noqa: PLC0415
    from runtime.cli.views.model import painted  # noqa: PLC0415

    found = client.all_caches() if model is None else [client.model_caches(model)]
    if as_json:
        show_json(found)
    else:
        click.echo(painted(caches_as_text(found)) or "no model serves")


@click.command()
@MODEL
@click.option("--all", "everything", is_flag=True, help="Refresh every entry of every endpoint.")
@click.option("--endpoint", metavar="NAME", help="Refresh this endpoint alone; its path will do, too.")
@click.option("--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="Refresh one entry alone: give all of its parameters.")
@AS_JSON
@asking
def refresh(client: AdminClient, model: str, everything: bool, endpoint: str | None, parameters: tuple[str, ...], as_json: bool) -> None:
    """Have the workers of MODEL load again what their caches hold. What they hold serves until that is done.

    Say what is meant: --all, --endpoint, or each --parameter of one entry; the last two go together.
    """
    from runtime.cli.views.cache_table import refresh_as_text  # noqa: PLC0415

    if everything == bool(endpoint or parameters):
        raise click.UsageError("say what to refresh: --all, or --endpoint NAME, --parameter NAME=VALUE, or both of these")
    done = client.refresh(model, endpoint, _named(parameters) or None)
    show_json(done) if as_json else click.echo(refresh_as_text(done))
    if any(worker.error for worker in done.workers):
        raise PexdockError("not every worker answered, as said above")


COMMANDS = (models, cache, refresh)


def _named(parameters: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in parameters:
        name, equals, value = each.partition("=")
        if not equals or name in found:
            raise click.UsageError(f"--parameter {each}: " + ("it was given before" if equals else "write NAME=VALUE"))
        found[name] = value
    return found
