"""The options, arguments and exit codes that commands share, and what they do with them."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from runtime.admin.client.client import AdminClient
    from runtime.settings import Settings


class ExitStatus(IntEnum):
    """The exit codes of the command."""

    OK = 0
    FAILED = 1
    USAGE = 2
    TIMED_OUT = 3
    INTERRUPTED = 130


def complete_model(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Returns matching names of models from the state file, since completion must neither wait for a supervisor nor print an error."""
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


FILE = click.Path(path_type=Path, dir_okay=False)
MODEL = click.argument("model", shell_complete=complete_model)
OPTIONAL_MODEL = click.argument("model", required=False, shell_complete=complete_model)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
CONFIG = click.option("--config", type=click.Path(path_type=Path), help="Settings file [default: pexdock.toml, if it exists].")
ADMIN_URL = click.option(
    "--admin",
    metavar="URL",
    envvar="PEXDOCK_ADMIN",
    help="URL of the admin API, instead of the Unix socket of a local supervisor; requires --admin-token-path.",
)


def load_settings(flags: Mapping[str, object], config: Path | None) -> Settings:
    """Returns the settings in force, by which later errors about paths are explained.

    Raises:
        BadSetting: A name is unknown, or a value is invalid.
    """
    from runtime import settings  # noqa: PLC0415

    loaded = settings.load(flags, config)
    click.get_current_context().find_root().obj = loaded
    return loaded


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options that identify a supervisor to a command, and passes it `settings` in their place."""

    @click.option("--dist-path", metavar="PATH", help="Folder of the pexes that the supervisor serves.")
    @click.option("--run-path", metavar="PATH", help="Run directory of the supervisor.")
    @click.option("--admin-token-path", metavar="PATH", help="File with the token for --admin.")
    @CONFIG
    @functools.wraps(command)
    def call(config: Path | None, **given: object) -> None:
        flags = {name: given.pop(name) for name in ("dist_path", "run_path", "admin_token_path")}
        command(load_settings(flags, config), **given)

    return call


def with_client(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options that identify a supervisor to a command, and passes it `client` in their place."""

    @with_settings
    @ADMIN_URL
    @functools.wraps(command)
    def call(settings: Settings, admin: str | None, **rest: object) -> None:
        command(new_client(settings, admin), **rest)

    return call


def new_client(settings: Settings, url: str | None) -> AdminClient:
    """Returns a client of the supervisor at `url`, or without one, of that in the run directory.

    Raises:
        PexdockError: The URL or the token is invalid.
    """
    from base.errors import PexdockError  # noqa: PLC0415
    from runtime.admin.client.client import AdminClient  # noqa: PLC0415
    from runtime.admin.client.transport import UnixTransport, UrlTransport  # noqa: PLC0415
    from runtime.admin.token import read_token  # noqa: PLC0415

    if url is None:
        return AdminClient(UnixTransport(settings.run_path))
    if settings.admin_token_path is None:
        raise PexdockError("--admin requires a token: name its file with --admin-token-path")
    return AdminClient(UrlTransport(url, read_token(settings.admin_token_path)))


def show_json(document: object) -> None:
    """Prints a document for programs: indented, on a terminal and off it."""
    import msgspec  # noqa: PLC0415

    click.echo(msgspec.json.format(msgspec.json.encode(document)))


def show_progress(line: str) -> None:
    """Prints a line of progress to stderr."""
    click.echo(line, err=True)


def wants_colour() -> bool | None:
    """Returns click's setting for colours: False if NO_COLOR is set, else None, by which click colours output to a terminal."""
    return False if os.environ.get("NO_COLOR") else None
