"""`pexdock score`: scores files with a model, without a supervisor."""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runtime.cli.options import CONFIG, FILE, ExitStatus, load_settings, show_progress

if TYPE_CHECKING:
    from collections.abc import Callable

_WORKER_LINES = 50

_REFRESH_S = 0.2
_REFRESH_LOG_S = 10.0
"""Interval between two lines of progress where standard error is no terminal."""


def _parse_parameter(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> list[tuple[str, str]]:
    pairs = [value.partition("=") for value in values]
    wrong = next((name for name, equals, _ in pairs if not (name and equals)), None)
    if wrong is not None:
        raise click.BadParameter(f"{wrong!r} has no value; write NAME=VALUE")
    return [(name, value) for name, _, value in pairs]


def _setting(name: str, metavar: str, text: str) -> Callable[..., Any]:
    """Returns the option of a setting, by its short name, and by its whole name as other commands have it."""
    flag = name.replace("_", "-")
    return click.option(f"--{flag}", f"--score-{flag}", f"score_{name}", metavar=metavar, help=text)


@click.command()
@click.argument("model", type=FILE)
@click.argument("endpoint", required=False)
@click.option(
    "--input", "inputs", required=True, multiple=True, metavar="PATTERN", help="Files to score, such as 's3://bucket/in/**/*.parquet'."
)
@click.option(
    "--output",
    required=True,
    metavar="FOLDER",
    help="Folder of the results, 'FOLDER/*.csv' for another format than Parquet, or one FILE.csv; also URLs.",
)
@click.option("--param", "parameters", multiple=True, metavar="NAME=VALUE", callback=_parse_parameter, help="Parameter of path or query.")
@click.option("--workers", type=click.IntRange(1, 256), help="Worker processes [default: one for each core].")
@click.option("--row-column", default="", metavar="NAME", help="Add a column with the number of the row in its file.")
@_setting("batch_rows", "N", "Rows of a call.")
@_setting("batch_max_bytes", "SIZE", "Bytes of the rows of a call.")
@_setting("part_rows", "N", "Rows after which a new file of results begins.")
@_setting("memory_max_bytes", "SIZE", "Memory for rows that were read ahead and results to be written.")
@_setting("refused_max_rows", "N", "Refused rows beyond which the run ends.")
@_setting("timeout_s", "SECONDS", "Time limit of a call.")
@click.option("--base", type=FILE, help="Base of the model [default: the one in dist/ or beside the model that fits].")
@click.option("--dist-path", metavar="PATH", help="Folder to look for a base in.")
@click.option("--artifacts-path", metavar="PATH", help="Folder from which the model reads its artifacts.")
@click.option("--cache-path", metavar="PATH", help="Folder for the unpacked model and base.")
@CONFIG
@click.pass_context
def score(ctx: click.Context, /, model: Path, endpoint: str | None, config: Path | None, **given: Any) -> None:
    """Score files with MODEL, on all cores of this machine.

    Reads Parquet, CSV, NDJSON and Arrow files, and writes the results as Parquet or in the format that --output names. A run that has ended
    early continues when the same command is run again. Refused rows are listed in _refused.ndjson in the output, or beside it.
    """
    from runtime.score.run import ScoreOrder, score_files  # noqa: PLC0415
    from runtime.supervisor.processes import child_output  # noqa: PLC0415

    inputs, output, parameters = given.pop("inputs"), given.pop("output"), given.pop("parameters")
    workers = given.pop("workers") or len(os.sched_getaffinity(0))
    order = ScoreOrder(model, given.pop("base"), endpoint, inputs, output, parameters, workers, given.pop("row_column"))
    settings = load_settings(given, config)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger(child_output.__name__).addFilter(_FirstLines())
    began_s = time.monotonic()
    try:
        totals = score_files(order, settings, _ProgressLine, show_progress)
    except KeyboardInterrupt:
        click.echo("\npexdock: interrupted; run the same command again to continue", err=True)
        ctx.exit(ExitStatus.INTERRUPTED)
    took_s = max(1e-9, time.monotonic() - began_s)
    refused = f", {totals.refused} rows refused: see {totals.refusals}" if totals.refused else ""
    what = f"rows scored in {took_s:.1f} s" if totals.computed else "rows were scored before, and none is left"
    click.echo(f"{totals.rows} {what}, {totals.results} results{refused}")
    if totals.failed:
        click.echo(f"pexdock: the model failed for {totals.failed} of the refused rows", err=True)
        ctx.exit(ExitStatus.FAILED)


class _FirstLines(logging.Filter):
    """Shows the first warnings of workers only: a handler that fails for some rows is called, and fails, often until these are found."""

    def __init__(self) -> None:
        super().__init__()
        self._left = _WORKER_LINES

    def filter(self, record: logging.LogRecord) -> bool:
        """Returns whether a record is shown."""
        self._left -= record.levelno >= logging.WARNING
        if self._left == 0:
            record.msg, record.args = "further lines of workers are not shown", ()
        return self._left >= 0


class _ProgressLine:
    """Shows the progress on standard error: as a bar on a terminal, else as a line from time to time.

    Args:
        files: Number of files.
        size: Their bytes.
    """

    def __init__(self, files: int, size: int) -> None:
        self._files, self._size = files, max(1, size)
        self._done, self._rows, self._refused = 0.0, 0, 0
        self._is_terminal = sys.stderr.isatty()
        self._began_s = time.monotonic()
        self._shown_s = self._began_s if not self._is_terminal else 0.0

    def __call__(self, weight: float, rows: int, refused: int) -> None:
        """Adds what was just read."""
        self._done += weight
        self._rows += rows
        self._refused += refused
        now_s, done = time.monotonic(), min(1.0, self._done / self._size)
        if now_s - self._shown_s < (_REFRESH_S if self._is_terminal else _REFRESH_LOG_S) and done < 1:
            return
        self._shown_s = now_s
        rate = self._rows / max(1e-9, now_s - self._began_s)
        left_s = (now_s - self._began_s) * (1 - done) / max(1e-9, done)
        text = f"{done:4.0%} of {self._files} files  {self._rows} rows, {self._refused} refused  {rate:,.0f} rows/s  {left_s:.0f} s left"
        bar = f"[{'#' * round(30 * done):30}] "
        click.echo(f"\r\x1b[K{bar}{text}" if self._is_terminal else text, err=True, nl=not self._is_terminal or done >= 1)
