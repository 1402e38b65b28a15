"""`pexdock doctor`: diagnoses this machine."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from runtime.cli.options import AS_JSON, ExitStatus, show_json, with_settings

if TYPE_CHECKING:
    from runtime.settings import Settings


@click.command()
@AS_JSON
@with_settings
def doctor(settings: Settings, as_json: bool) -> None:
    """Diagnose this machine, its folders and its pexes.

    Prints what to do about problems, and changes nothing. Exits with 1 if there is a problem, and with 0 if there are only warnings.
    """
    from runtime.cli.views.model import painted  # noqa: PLC0415
    from runtime.doctor.finding import Level, format_findings, worst_level  # noqa: PLC0415
    from runtime.doctor.folders import check_folders  # noqa: PLC0415
    from runtime.doctor.kernel import check_kernel  # noqa: PLC0415
    from runtime.doctor.memory import check_memory  # noqa: PLC0415
    from runtime.doctor.pexes import check_pexes  # noqa: PLC0415
    from runtime.supervisor.status.state import State  # noqa: PLC0415
    from runtime.supervisor.status.state_file import read_state  # noqa: PLC0415

    try:
        state = read_state(settings.run_path, settings.dist_path)
    except OSError:  # which is a finding about the folder
        state = State(dist_path=str(settings.dist_path))
    found = [check_memory(settings, state), *check_kernel(settings), *check_folders(settings, state), *check_pexes(settings, state)]
    show_json(found) if as_json else click.echo(painted(format_findings(found)))
    sys.exit(ExitStatus.FAILED if worst_level(found) is Level.PROBLEM else ExitStatus.OK)
