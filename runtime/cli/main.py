"""The command `pexdock`: the tree of its commands, which are defined in modules by noun."""

from __future__ import annotations

import errno
from typing import Any

import click

import base
from base.errors import PexdockError
from runtime.cli import caches, completion, deploy, jobs, logs, models, serve, traffic
from runtime.cli.local import build, doctor, pexes, score
from runtime.cli.options import ExitStatus, wants_colour


class PexdockGroup(click.Group):
    """A group of commands that prints an error as one line, without a traceback. The context's object is the settings, once loaded."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the subcommand, and prints its error to stderr."""
        from runtime.path_errors import explain_os_error  # noqa: PLC0415
        from runtime.settings import BadSetting  # noqa: PLC0415 - keeps pydantic out of --help

        try:
            return super().invoke(ctx)
        except PexdockError as exc:
            click.echo(f"pexdock: {exc.detail}", err=True)
            ctx.exit(ExitStatus.USAGE if isinstance(exc, BadSetting) else ExitStatus.FAILED)
        except OSError as exc:
            if exc.errno == errno.EPIPE:  # the reader of our output is gone, which click handles
                raise
            click.echo(f"pexdock: {explain_os_error(exc, ctx.obj.paths if ctx.obj else {})}", err=True)
            ctx.exit(ExitStatus.FAILED)


@click.group(cls=PexdockGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120, "color": wants_colour()})
@click.version_option(base.__version__, package_name="pexdock", message="%(prog)s %(version)s")
def main() -> None:
    """Serve Python models, each deployed on its own as a small pex on a shared base."""


for command in (
    # build
    build.build,
    pexes.check,
    pexes.unpack,
    # serve
    serve.serve,
    serve.key,
    doctor.doctor,
    # score files
    score.score,
    # deploy, and move traffic
    deploy.deploy,
    traffic.promote,
    traffic.rollback,
    traffic.pin,
    traffic.split,
    traffic.shadow,
    traffic.label,
    # observe and operate
    models.models,
    models.describe,
    caches.cache,
    caches.refresh,
    jobs.jobs,
    logs.logs,
    logs.drain,
    completion.completion,
):
    main.add_command(command)
