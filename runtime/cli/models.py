"""`pexdock models` and `pexdock describe`: all models, and one in detail."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from runtime.cli.options import ADMIN_URL, AS_JSON, MODEL, new_client, show_json, with_client, with_settings

if TYPE_CHECKING:
    from runtime.admin.client.client import AdminClient
    from runtime.settings import Settings


@click.command()
@AS_JSON
@ADMIN_URL
@with_settings
def models(settings: Settings, as_json: bool, admin: str | None) -> None:
    """List releases and models with their states.

    The output has the reasons why releases were refused or failed.
    """
    from runtime.cli.views import release_table  # noqa: PLC0415
    from runtime.cli.views.model import models_as_text, painted  # noqa: PLC0415
    from runtime.supervisor.status.state_file import read_state  # noqa: PLC0415

    # The state file holds the same, and can be read even if a supervisor does not answer.
    found = new_client(settings, admin).models() if admin else read_state(settings.run_path, settings.dist_path)
    if as_json:
        show_json(found)
    else:
        click.echo(painted("\n\n".join(part for part in (release_table.as_table(found), models_as_text(found.models)) if part)))


@click.command()
@MODEL
@AS_JSON
@with_client
def describe(client: AdminClient, model: str, as_json: bool) -> None:
    """Show the details of MODEL.

    These are its traffic, endpoints with their schemas, releases, workers and history.
    """
    from runtime.cli.views.detail import detail_as_json, detail_as_text  # noqa: PLC0415
    from runtime.cli.views.model import painted  # noqa: PLC0415

    found = client.model_detail(model)
    show_json(detail_as_json(found)) if as_json else click.echo(painted(detail_as_text(found)))
