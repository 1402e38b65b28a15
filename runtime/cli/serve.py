"""`pexdock serve`, and `pexdock key` for the clients of what it serves."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from base.telemetry.append_log import STDOUT, AppendLog
from runtime.cli.options import CONFIG, load_settings

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

_METAVARS = {"s": "SECONDS", "bytes": "SIZE", "path": "PATH", "url": "URL"} | dict.fromkeys(
    ("rows", "port", "release", "parallel", "doors", "requests", "nice", "percent", "min", "max", "attempts"), "N"
)

_LOG_QUEUED_MAX_BYTES = 4 * 1024 * 1024
"""Lines of the log that may be queued while nobody reads them; more are dropped, and only `pexdock logs` has them."""


class ServeCommand(click.Command):
    """`serve`, whose options are the settings. They are loaded only for a command line of `serve`."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Returns the options: one for each setting, `--config` and `--help`."""
        from runtime.settings import RENAMED, Settings  # noqa: PLC0415 - keeps pydantic out of `pexdock --help`

        fields = sorted(Settings.model_fields.items(), key=lambda each: each[0].startswith("job_"))  # those of jobs last
        options = [_option(name, field) for name, field in fields]
        renamed = [click.Option([_flag(name)], hidden=True) for name in RENAMED]  # `runtime.settings` answers with the new name
        return [*options, *renamed, *super().get_params(ctx)]


def _option(name: str, field: FieldInfo) -> click.Option:
    """Returns the option of a setting. Its value stays a string: `runtime.settings` validates it like those of other sources."""
    several = isinstance(field.default, tuple)
    value = ", ".join(field.default) if several else field.default
    value = value.human_readable() if hasattr(value, "human_readable") else value
    default = "" if field.default_factory or value in {None, ""} else f" [default: {value}]"
    metavar = _METAVARS.get(name.rpartition("_")[2], "VALUE")
    return click.Option([_flag(name)], metavar=metavar, multiple=several, help=f"{field.description}{default}")


def _flag(setting: str) -> str:
    return f"--{setting.replace('_', '-')}"


@click.command(cls=ServeCommand)
@CONFIG
def serve(config: Path | None, **flags: str | None) -> None:
    """Serve the pexes in dist/.

    Pexes may be added, replaced and removed while it runs. SIGTERM and Ctrl-C shut it down gracefully.

    Each option can also be set in pexdock.toml, as in `port = 8080`, or in the environment, as in PEXDOCK_PORT=8080.
    """
    from runtime import settings  # noqa: PLC0415
    from runtime.serve import serve as run  # noqa: PLC0415

    chosen = load_settings(flags, config)
    config = config or settings.found_file()  # if it is gone at a SIGHUP, this is an error instead of all defaults
    with AppendLog(STDOUT, "lines of the log", "where standard error leads to", _LOG_QUEUED_MAX_BYTES, stdout_fd=2) as lines:
        _log_to_stderr(lines, chosen.log_level)
        run(chosen, _show, lambda: settings.load(flags, config))


@click.command()
@click.argument("name")
def key(name: str) -> None:
    """Create an API key for the client NAME.

    The key is shown only this once. Add the printed line, which holds a digest of it, to the file that api_keys_path names.
    """
    from runtime.http.api_keys import make_key  # noqa: PLC0415

    made, line = make_key(name)
    click.echo(f"key, for the client: {made}")
    click.echo(f"line, for the file that api_keys_path names: {line}")


class _QueuedLines(logging.Handler):
    """Hands lines to a thread, since the disk of a log, or the reader of a pipe, may hang."""

    def __init__(self, lines: AppendLog) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        """Queues one record."""
        line = f"{self.format(record)}\n".encode(errors="backslashreplace")
        self._lines.append_lines(lambda: (line,), len(line))


def _log_to_stderr(lines: AppendLog, level: str) -> None:
    handler = _QueuedLines(lines)
    handler.setLevel(level.upper())  # the supervisor's log buffer may keep more than is printed
    logging.basicConfig(handlers=[handler], level=level.upper(), format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")


def _show(text: str) -> None:
    """Prints text for people. If standard output is closed by its reader, it is redirected to /dev/null, and serving continues."""
    try:
        print(text, flush=True)
    except OSError:
        with contextlib.suppress(OSError), open(os.devnull, "w") as devnull:  # noqa: PTH123 - a device
            os.dup2(devnull.fileno(), sys.stdout.fileno())
