"""`pexdock build`: builds base and models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from base.errors import PexdockError
from runtime.cli.options import CONFIG, FILE, load_settings, show_progress
from runtime.cli.views.pex import build_as_text, plan_as_text

if TYPE_CHECKING:
    from runtime.build.pack import BuiltPex
    from runtime.settings import Settings

_CHECKOUT = Path(__file__).parents[3]
_OUTPUT = click.Path(path_type=Path)


@click.group()
def build() -> None:
    """Build pexes."""


@build.command("base")
@click.option("-o", "--output", type=_OUTPUT, help="File to write, or its folder [default: dist/base-<version>.pex in the checkout].")
@CONFIG
def build_base(output: Path | None, config: Path | None) -> None:
    """Build the base from this checkout and its dependencies, at the versions of its lock file."""
    from runtime.build import base as builder  # noqa: PLC0415

    chosen = load_settings({}, config)
    _show(builder.build_base(_CHECKOUT, output, cache=chosen.cache_path, report=show_progress))


@build.command("model")
@click.argument("path", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "-o",
    "--output",
    type=_OUTPUT,
    help="File to write, or its folder [default: <name>-<version>.pex beside the base; in build/ while Pexdock serves that folder].",
)
@click.option("--base", "base_pex", type=FILE, help="Base to build on [default: the newest in dist/].")
@click.option("--carry", multiple=True, metavar="NAME", help="Include the model's own version of a package that base provides; repeatable.")
@click.option("--check", "only_check", is_flag=True, help="Show what would be built, and from which lock; write no pex.")
@CONFIG
def build_model(
    path: Path, output: Path | None, base_pex: Path | None, carry: tuple[str, ...], only_check: bool, config: Path | None
) -> None:
    """Build the pex of the model project in PATH, without the packages that base provides.

    The project may be locked by poetry.lock, uv.lock, pylock.toml or a requirements.txt with hashes, and be built by any PEP 517 backend.
    Without a lock, the newest versions that fit base are taken.

    A pex in a folder that Pexdock serves is live at once. So while it runs, the result goes to build/: `pexdock deploy` puts it in.
    """
    from runtime.build import model as builder  # noqa: PLC0415

    chosen = load_settings({}, config)
    on = base_pex or _newest_base(chosen.dist_path)
    if only_check:
        click.echo(plan_as_text(builder.plan_model(path, on, carry, cache=chosen.cache_path, report=show_progress)))
        return
    aside = output is None and _is_served(on.parent, chosen)
    if aside:
        output = on.parent.parent / "build"
        output.mkdir(exist_ok=True)
    built = builder.build_model(path, on, output, carry, cache=chosen.cache_path, report=show_progress)
    _show(built)
    if aside:
        click.echo(f"Pexdock serves {on.parent}, so this is not in it; to serve it, run `pexdock deploy {built.path}`")


def _is_served(folder: Path, chosen: Settings) -> bool:
    """Returns whether a supervisor of this machine that runs with these settings watches a folder."""
    from runtime.supervisor.status.state_file import read_state  # noqa: PLC0415

    try:
        found = read_state(chosen.run_path, chosen.dist_path)
    except (PexdockError, OSError):
        return False
    return found.pid is not None and Path(found.dist_path).resolve() == folder.resolve()


def _show(built: BuiltPex) -> None:
    click.echo(build_as_text(built))


def _newest_base(dist_path: Path) -> Path:
    from packaging.version import Version  # noqa: PLC0415

    from runtime.pex.bases import find_bases  # noqa: PLC0415

    bases = find_bases(dist_path)
    if not bases:
        raise PexdockError(f"there is no base in {dist_path}: build one with `pexdock build base`, or name one with --base")
    return max(bases, key=lambda base: Version(base.version)).path
