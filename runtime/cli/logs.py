"""`pexdock logs` and `pexdock drain`."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from runtime.cli.options import AS_JSON, OPTIONAL_MODEL, asking, show_json

if TYPE_CHECKING:
    from runtime.admin.client.client import AdminClient
    from runtime.supervisor.host.log_buffer import LogLine


@click.command()
@OPTIONAL_MODEL
@click.option("-f", "--follow", is_flag=True, help="Go on with the lines to come, until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(0, 10_000), default=200, show_default=True, help="So many at most, the last ones.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each.")
@asking
def logs(client: AdminClient, model: str | None, follow: bool, lines: int, as_json: bool) -> None:
    """Show the last lines of MODEL's workers, and about it; without MODEL, of the supervisor and all its children."""
    if not follow:
        for line in client.logs(model or "", lines):
            _show(line, as_json)
        return
    with contextlib.suppress(KeyboardInterrupt), client.follow_logs(model or "", lines) as following:
        for line in following:
            _show(line, as_json)


@click.command()
@AS_JSON
@click.option("--no-wait", is_flag=True, help="Do not wait for the end.")
@asking
def drain(client: AdminClient, as_json: bool, no_wait: bool) -> None:
    """End Pexdock in order, as SIGTERM does: take nothing new, answer what is there, go."""
    with contextlib.ExitStack() as stack:
        ended = stack.enter_context(_ending(client))
        done = client.drain()
        if not no_wait:
            ended()
    if as_json:
        show_json(done)
    else:
        click.echo(f"supervisor {done.pid} " + ("finishes" if no_wait else "has ended"))


@contextlib.contextmanager
def _ending(client: AdminClient) -> Iterator[Callable[[], None]]:
    """Gives what waits for the end of the supervisor: of its process where that is here, else of its answers."""
    from runtime.admin.client.transport import AdminError  # noqa: PLC0415

    with client.watch_models() as states:
        pid = next(states).pid
        fd = os.pidfd_open(pid) if client.is_local and pid else -1

        def wait() -> None:
            if fd >= 0:
                select.select([fd], [], [])
                return
            with contextlib.suppress(AdminError):
                for _ in states:
                    pass

        try:
            yield wait
        finally:
            if fd >= 0:
                os.close(fd)


def _show(line: LogLine, as_json: bool) -> None:
    import msgspec  # noqa: PLC0415

    from runtime.cli.views.model import line_as_text  # noqa: PLC0415

    click.echo(msgspec.json.encode(line).decode() if as_json else line_as_text(line))
