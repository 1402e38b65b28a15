"""The command `pexdock`. Each of its parts is imported only when it is used, so that `--help` and `models` answer at once."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import sys
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import base
from base.errors import PexdockError, PexRefused
from runtime.cli import models, traffic
from runtime.cli.completion import completion
from runtime.cli.deploy import deploy
from runtime.cli.describe import describe
from runtime.cli.doctor import doctor
from runtime.cli.logs import drain, logs
from runtime.cli.options import wants_colour

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from runtime.build.pack import BuiltPex
    from runtime.pex.file import PexFile
    from runtime.settings import Settings


_METAVARS = {"s": "SECONDS", "bytes": "SIZE", "path": "PATH", "rows": "N", "port": "N", "release": "N", "parallel": "N"}

_PATH = click.Path(path_type=Path)
_FILE = click.Path(path_type=Path, dir_okay=False)
_CONFIG_HELP = "Settings file [default: pexdock.toml, if it is there]."


class Exit(IntEnum):
    """How the command ends."""

    OK = 0
    FAILED = 1
    USAGE = 2


class Command(click.Group):
    """A group whose errors are one line, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand; what it could not do is said on stderr."""
        from runtime.settings import BadSetting  # noqa: PLC0415 - keeps pydantic out of --help

        try:
            return super().invoke(ctx)
        except PexdockError as exc:
            click.echo(f"pexdock: {exc.detail}", err=True)
            ctx.exit(Exit.USAGE if isinstance(exc, BadSetting) else Exit.FAILED)


@click.group(cls=Command, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120, "color": wants_colour()})
@click.version_option(base.__version__, package_name="pexdock", message="%(prog)s %(version)s")
def main() -> None:
    """Serve Python models that are deployed one by one, each as a small pex on a shared base."""


class Serve(click.Command):
    """`serve`, whose options are the settings. They are read only when somebody asks for them."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The options of the command line: `--config`, one for each setting, `--help`."""
        from runtime.settings import RENAMED, Settings  # noqa: PLC0415 - keeps pydantic out of `pexdock --help`

        options = [_option(name, field) for name, field in Settings.model_fields.items()]
        renamed = [click.Option([_flag(name)], hidden=True) for name in RENAMED]  # `runtime.settings` answers with the new name
        return [*options, *renamed, *super().get_params(ctx)]


def _option(name: str, field: FieldInfo) -> click.Option:
    """Returns the option of a setting. Its value stays a string: `runtime.settings` validates it like those of other sources."""
    default = "" if field.default_factory or field.default is None else f" [default: {field.default}]"
    metavar = _METAVARS.get(name.rpartition("_")[2], "VALUE")
    return click.Option([_flag(name)], metavar=metavar, help=f"{field.description}{default}")


def _flag(setting: str) -> str:
    return f"--{setting.replace('_', '-')}"


@main.command(cls=Serve)
@click.option("--config", type=_PATH, help=_CONFIG_HELP)
def serve(config: Path | None, **flags: str | None) -> None:
    """Serve what lies in dist/ and what is dropped there, until Ctrl-C or SIGTERM.

    Each option may also stand in pexdock.toml, as in `port = 8080`, or in the environment, as in PEXDOCK_PORT=8080.
    """
    from runtime import settings  # noqa: PLC0415
    from runtime.serve import serve as supervise  # noqa: PLC0415

    chosen = settings.load(flags, config)
    _log_to_stderr(chosen.log_level)
    supervise(chosen, _show)


@main.group()
def build() -> None:
    """Build pexes."""


@build.command("base")
@click.option("-o", "--output", type=_FILE, help="The file [default: dist/base-<version>.pex in the checkout].")
@click.option("--config", type=_PATH, help=_CONFIG_HELP)
def build_base(output: Path | None, config: Path | None) -> None:
    """Build the base: this checkout and what it depends on, as its lock pins it."""
    from runtime import settings  # noqa: PLC0415
    from runtime.build import base as builder  # noqa: PLC0415

    chosen = settings.load({}, config)
    _say_built(builder.build_base(Path(__file__).parent.parent, output, cache=chosen.cache_path, report=_progress))


@build.command("model")
@click.argument("path", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("-o", "--output", type=_FILE, help="The file [default: <name>-<version>.pex beside the base].")
@click.option("--base", "base_pex", type=_FILE, help="The base to build it on [default: the newest in dist/].")
@click.option("--carry", multiple=True, metavar="NAME", help="Carry an own version of this distribution of base; may be repeated.")
@click.option("--config", type=_PATH, help=_CONFIG_HELP)
def build_model(path: Path, output: Path | None, base_pex: Path | None, carry: tuple[str, ...], config: Path | None) -> None:
    """Build the pex of the model project in PATH, without what base provides."""
    from runtime import settings  # noqa: PLC0415
    from runtime.build import model as builder  # noqa: PLC0415

    chosen = settings.load({}, config)
    on = base_pex or _newest_base(chosen.dist_path)
    _say_built(builder.build_model(path, on, output, carry, cache=chosen.cache_path, report=_progress))


def _progress(line: str) -> None:
    click.echo(line, err=True)


def _say_built(built: BuiltPex) -> None:
    click.echo(f"{built.path}: {built.kind} {built.name} {built.version}{', which was there already' if built.reused else ''}")
    click.echo(f"  size     {_size(built.size_bytes)} (packages {_size(built.own_bytes)}, pex itself {_size(built.bootstrap_bytes)})")
    click.echo(f"  sha256   {built.sha256}")
    click.echo(f"  sbom     {built.sbom}")
    if built.carried:
        click.echo(f"  carries  {', '.join(f'{name} {version}' for name, version in built.carried)}")


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.2f} MB" if size_bytes >= 1e5 else f"{size_bytes / 1e3:.1f} kB"


def _newest_base(dist_path: Path) -> Path:
    from packaging.version import Version  # noqa: PLC0415

    from runtime.pex.bases import find_bases  # noqa: PLC0415

    bases = find_bases(dist_path)
    if not bases:
        raise PexdockError(f"there is no base in {dist_path} to build on: make one with `pexdock build base`, or name one with --base")
    return max(bases, key=lambda base: Version(base.version)).path


@main.command()
@click.argument("name")
def key(name: str) -> None:
    """Make a key for a client, called NAME. It is shown this once; api_keys_path holds a digest of it."""
    from runtime.http.api_keys import make_key  # noqa: PLC0415

    made, line = make_key(name)
    click.echo(f"key, for the client: {made}")
    click.echo(f"line, for the file that api_keys_path names: {line}")


for command in (*models.COMMANDS, *traffic.COMMANDS, describe, deploy, logs, drain, doctor, completion):
    main.add_command(command)


@main.command()
@click.argument("pex", type=_FILE)
@click.option("--base", "base_pex", type=_FILE, help="The base [default: the one in dist/ that fits].")
@click.option("--dist-path", help="The folder in which a base is looked for.")
@click.option("--config", type=_PATH, help=_CONFIG_HELP)
def check(pex: Path, base_pex: Path | None, dist_path: str | None, config: Path | None) -> None:
    """Say what PEX is and whether it can be served here, without running it."""
    from runtime import settings  # noqa: PLC0415
    from runtime.pex.file import read_pex  # noqa: PLC0415

    chosen = settings.load({"dist_path": dist_path}, config)
    found = read_pex(pex)
    click.echo(f"{found.path.name}: {found.kind} {found.name} {found.version}")
    click.echo(f"  size           {_size(found.size_bytes)}")
    click.echo(f"  distributions  {len(found.distributions)}, of {_size(sum(each.size_bytes for each in found.distributions.values()))}")
    if found.interpreter_constraints:
        click.echo(f"  interpreter    {', '.join(found.interpreter_constraints)}")
    if voucher := _voucher(pex, chosen):
        click.echo(f"  trusted        {voucher}")
    if found.kind == "model":
        _check_model(found, base_pex, chosen)


def _voucher(pex: Path, chosen: Settings) -> str:
    """Who vouches for the file; empty where every pex is trusted."""
    from runtime.pex.trust.policy import load_trust_policy  # noqa: PLC0415

    trust = load_trust_policy(chosen.trusted_keys_path, chosen.trusted_digests_path)
    if trust is None:
        return ""
    with pex.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return trust.verify(pex, pex, sha256)


def _check_model(model: PexFile, base_pex: Path | None, chosen: Settings) -> None:
    from runtime.pex.bases import find_bases  # noqa: PLC0415
    from runtime.pex.check import check_pex, choose_base  # noqa: PLC0415
    from runtime.pex.file import read_pex  # noqa: PLC0415

    bases = [read_pex(base_pex, checksums=False)] if base_pex else find_bases(chosen.dist_path)
    on = bases[0] if base_pex else choose_base(model, bases)
    if on.kind != "base":
        raise PexRefused(f"{on.path.name} is the model {on.name}, where a base is wanted")
    warnings = check_pex(model, on)
    click.echo(f"  base           {on.version}, {on.path}")
    click.echo(f"  endpoints      {', '.join(f'{name} = {value}' for name, value in model.endpoints.items())}")
    for warning in warnings:
        click.echo(f"  warning: {warning}")


@main.command()
@click.option("--dist-path", help="The folder whose pexes are unpacked.")
@click.option("--cache-path", help="The folder that they are unpacked into.")
@click.option("--config", type=_PATH, help=_CONFIG_HELP)
@click.pass_context
def unpack(ctx: click.Context, dist_path: str | None, cache_path: str | None, config: Path | None) -> None:
    """Unpack what lies in dist/ ahead, as in the build of an image, so that no start has to."""
    from runtime import settings  # noqa: PLC0415
    from runtime.pex.cache.prefetch import Prefetcher  # noqa: PLC0415
    from runtime.pex.cache.store import PexCache  # noqa: PLC0415
    from runtime.pex.names import is_pex_name  # noqa: PLC0415

    chosen = settings.load({"dist_path": dist_path, "cache_path": cache_path}, config)
    pexes = sorted(path for path in chosen.dist_path.iterdir() if is_pex_name(path.name)) if chosen.dist_path.is_dir() else []
    store = PexCache(chosen.cache_path, _progress)
    try:
        whole = Prefetcher(store, click.echo, _progress).unpack_all(pexes)
    finally:
        store.close()
    ctx.exit(Exit.OK if whole else Exit.FAILED)


def _log_to_stderr(level: str) -> None:
    logging.basicConfig(stream=sys.stderr, level=level.upper(), format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
    for handler in logging.getLogger().handlers:
        handler.setLevel(level.upper())  # the logbook of the supervisor may hear more than is printed


def _show(text: str) -> None:
    """Print for people. Nobody may be reading any more, which is no reason to stop serving."""
    try:
        print(text, flush=True)
    except OSError:
        with contextlib.suppress(OSError), open(os.devnull, "w") as nowhere:  # noqa: PTH123 - a device
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
