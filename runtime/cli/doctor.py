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
    from runtime.doctor.finding import Level, as_text, worst  # noqa: PLC0415
    from runtime.doctor.folders import folders  # noqa: PLC0415
    from runtime.doctor.kernel import kernel  # noqa: PLC0415
    from runtime.doctor.memory import memory  # noqa: PLC0415
    from runtime.doctor.pexes import pexes  # noqa: PLC0415
    from runtime.supervisor.status.state_file import read_state  # noqa: PLC0415

    known = read_state(settings.run_path, settings.dist_path)
    found = [memory(settings, known), *kernel(settings), *folders(settings, known), *pexes(settings, known)]
    if as_json:
        show_json(found)
    else:
        click.echo(painted(as_text(found)))
    sys.exit(1 if worst(found) is Level.PROBLEM else 0)
