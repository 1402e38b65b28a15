"""What all commands that ask a running supervisor have in common: which one is meant, and what they print."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from runtime.admin.client.client import AdminClient
    from runtime.settings import Settings

ADMIN_VARIABLE = "PEXDOCK_ADMIN"
"""The variable of --admin. It is no setting of a supervisor."""


def asking(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options that say which supervisor is meant, and `client` in their place."""

    @settled
    @click.option("--admin", metavar="URL", envvar=ADMIN_VARIABLE, help="Ask a supervisor over TCP; --admin-token-path says with what.")
    @functools.wraps(command)
    def with_client(settings: Settings, admin: str | None, **rest: object) -> None:
        command(client_of(settings, admin), **rest)

    return with_client


def settled(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options that say which settings are meant, and `settings` in their place."""

    @click.option("--dist-path", metavar="PATH", help="The folder that is served.")
    @click.option("--run-path", metavar="PATH", help="The run directory of the supervisor.")
    @click.option("--admin-token-path", metavar="PATH", help="File with the token for --admin.")
    @click.option("--config", type=click.Path(path_type=Path), help="Settings file [default: pexdock.toml, if it is there].")
    @functools.wraps(command)
    def with_settings(config: Path | None, **given: object) -> None:
        from runtime import settings  # noqa: PLC0415

        flags = {name: given.pop(name) for name in ("dist_path", "run_path", "admin_token_path")}
        command(settings.load(flags, config), **given)

    return with_settings


def client_of(settings: Settings, url: str | None) -> AdminClient:
    """Of the supervisor at `url`, or of the one that runs on the run directory.

    Raises:
        PexdockError: the address or the token will not do.
    """
    from base.errors import PexdockError  # noqa: PLC0415
    from runtime.admin.client.client import AdminClient  # noqa: PLC0415
    from runtime.admin.client.transport import UnixTransport, UrlTransport  # noqa: PLC0415
    from runtime.admin.token import read_token  # noqa: PLC0415

    if url is None:
        return AdminClient(UnixTransport(settings.run_path))
    if settings.admin_token_path is None:
        raise PexdockError("--admin needs a token: name its file with --admin-token-path")
    return AdminClient(UrlTransport(url, read_token(settings.admin_token_path)))


def complete_model(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of models, from the state file alone: whoever presses Tab should not wait for an answer, nor read an error."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415

    from base.errors import PexdockError  # noqa: PLC0415
    from runtime import settings  # noqa: PLC0415
    from runtime.supervisor.status.state_file import read_state  # noqa: PLC0415

    try:
        chosen = settings.load({name: ctx.params.get(name) for name in ("dist_path", "run_path")}, ctx.params.get("config"))
        found = read_state(chosen.run_path, chosen.dist_path)
    except (PexdockError, OSError):
        return []
    return [CompletionItem(model.name) for model in found.models if model.name.startswith(incomplete)]


MODEL = click.argument("model", shell_complete=complete_model)
OPTIONAL_MODEL = click.argument("model", required=False, shell_complete=complete_model)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def show_json(document: object) -> None:
    """For programs: indented, and the same on a terminal or off it."""
    import msgspec  # noqa: PLC0415

    click.echo(msgspec.json.format(msgspec.json.encode(document)))


def wants_colour() -> bool | None:
    """What click is to do about colours: none where NO_COLOR says so, else those of a terminal."""
    return False if os.environ.get("NO_COLOR") else None


def styled(text: str, colour: str, *, bold: bool = False) -> str:
    """Text in a colour; what prints it leaves the colour out off a terminal."""
    return click.style(text, fg=colour, bold=bold)
