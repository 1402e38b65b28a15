"""`pexdock logs` and `pexdock drain`: the output of a running supervisor, and its end."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from runtime.cli.options import AS_JSON, OPTIONAL_MODEL, show_json, with_client

if TYPE_CHECKING:
    from runtime.admin.client.client import AdminClient
    from runtime.supervisor.host.log_buffer import LogLine


@click.command()
@OPTIONAL_MODEL
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines, until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(0, 10_000), default=200, show_default=True, help="Show at most the last N lines.")
@click.option("--json", "as_json", is_flag=True, help="Print each line as JSON.")
@with_client
def logs(client: AdminClient, model: str | None, follow: bool, lines: int, as_json: bool) -> None:
    """Print the last log lines of MODEL.

    Without MODEL, print those of the supervisor and of all its processes.
    """
    if not follow:
        for line in client.logs(model or "", lines):
            _show_line(line, as_json)
        return
    with contextlib.suppress(KeyboardInterrupt), client.follow_logs(model or "", lines) as following:
        for line in following:
            _show_line(line, as_json)


@click.command()
@AS_JSON
@click.option("--no-wait", is_flag=True, help="Do not wait for the supervisor to exit.")
@with_client
def drain(client: AdminClient, as_json: bool, no_wait: bool) -> None:
    """Shut down gracefully, as SIGTERM does.

    Pexdock accepts no new connections, finishes requests in flight, and exits.
    """
    with contextlib.ExitStack() as stack:
        wait_exited = stack.enter_context(_exit_waiter(client))
        done = client.drain()
        if not no_wait:
            wait_exited()
    if as_json:
        show_json(done)
    else:
        click.echo(f"supervisor {done.pid} " + ("is shutting down" if no_wait else "has exited"))


@contextlib.contextmanager
def _exit_waiter(client: AdminClient) -> Iterator[Callable[[], None]]:
    """Yields a function that waits for the supervisor to exit: by its process if it is local, else by the end of its responses."""
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


def _show_line(line: LogLine, as_json: bool) -> None:
    import msgspec  # noqa: PLC0415

    from runtime.cli.views.model import line_as_text  # noqa: PLC0415

    click.echo(msgspec.json.encode(line).decode() if as_json else line_as_text(line))
