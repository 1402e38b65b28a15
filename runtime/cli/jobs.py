"""`pexdock jobs`: the jobs of all clients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from base.errors import PexdockError
from runtime.cli.options import AS_JSON, show_json, with_client

if TYPE_CHECKING:
    from runtime.admin.client.client import AdminClient

_ID = click.argument("job_id", metavar="ID")
_CLIENT = click.option("--client", "of", default="", metavar="NAME", help="Client that submitted the job, by the name of its API key.")


@click.group()
def jobs() -> None:
    """List, show, follow and cancel jobs."""


@jobs.command("list")
@click.option("--state", "states", multiple=True, metavar="STATE", help="List only jobs in this state, or in several (queued,running).")
@click.option("--model", default="", metavar="MODEL", help="List only jobs of this model.")
@click.option("-n", "--lines", type=click.IntRange(1), default=100, show_default=True, help="List at most the last N jobs.")
@AS_JSON
@with_client
def list_jobs(client: AdminClient, states: tuple[str, ...], model: str, lines: int, as_json: bool) -> None:
    """List the jobs of all clients, the newest first."""
    from runtime.cli.views.jobs import jobs_as_text  # noqa: PLC0415
    from runtime.cli.views.model import painted  # noqa: PLC0415

    found = client.jobs(",".join(states).split(",") if states else (), model, lines)
    if as_json:
        show_json(found)
    else:
        click.echo(painted(jobs_as_text(found)) or "there are no such jobs")


@jobs.command()
@_ID
@_CLIENT
@AS_JSON
@with_client
def show(client: AdminClient, job_id: str, of: str, as_json: bool) -> None:
    """Show the job ID: its state, progress, times and error."""
    from runtime.cli.views.jobs import job_as_text  # noqa: PLC0415

    found = client.job(job_id, of)
    show_json(found) if as_json else click.echo(job_as_text(found))


@jobs.command()
@_ID
@_CLIENT
@AS_JSON
@with_client
def cancel(client: AdminClient, job_id: str, of: str, as_json: bool) -> None:
    """Cancel the job ID, unless it has ended."""
    from runtime.cli.views.jobs import progress_as_text  # noqa: PLC0415

    found = client.cancel_job(job_id, of)
    show_json(found) if as_json else click.echo(f"{found.id}: {progress_as_text(found)}")


@jobs.command()
@_ID
@_CLIENT
@click.option("--json", "as_json", is_flag=True, help="Print each change as JSON.")
@with_client
def follow(client: AdminClient, job_id: str, of: str, as_json: bool) -> None:
    """Print each change of the job ID, until it has ended. The command fails unless the job is done."""
    import msgspec  # noqa: PLC0415

    from runtime.cli.views.jobs import progress_as_text  # noqa: PLC0415

    found = client.job(job_id, of)
    with client.follow_job(job_id, of) as changes:
        for found in changes:
            click.echo(msgspec.json.encode(found).decode() if as_json else progress_as_text(found))
    if not found.state.is_final:
        raise PexdockError("the job runner has exited, and the job goes on once it is back: run the command again")
    if found.state != "done":
        raise PexdockError(f"job {job_id} is {found.state}{found.reason and f': {found.reason}'}")
