"""`pexdock doctor`. What it needs is imported when it is used."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from runtime.cli.options import AS_JSON, settled, show_json

if TYPE_CHECKING:
    from runtime.settings import Settings


@click.command()
@AS_JSON
@settled
def doctor(settings: Settings, as_json: bool) -> None:
    """Look for what may be wrong with this machine, its folders and its pexes, and say what to do.

    Ends with 1 where there is a problem; warnings alone end with 0. Nothing is changed.
    """
    from runtime.cli.views.model import painted  # noqa: PLC0415
    from runtime.doctor.finding import Level, format_findings, worst_level  # noqa: PLC0415
    from runtime.doctor.folders import check_folders  # noqa: PLC0415
    from runtime.doctor.kernel import check_kernel  # noqa: PLC0415
    from runtime.doctor.memory import check_memory  # noqa: PLC0415
    from runtime.doctor.pexes import check_pexes  # noqa: PLC0415
    from runtime.supervisor.status.state_file import read_state  # noqa: PLC0415

    known = read_state(settings.run_path, settings.dist_path)
    found = [check_memory(settings, known), *check_kernel(settings), *check_folders(settings, known), *check_pexes(settings, known)]
    if as_json:
        show_json(found)
    else:
        click.echo(painted(format_findings(found)))
    sys.exit(1 if worst_level(found) is Level.PROBLEM else 0)
