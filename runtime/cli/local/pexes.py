"""`pexdock check` and `pexdock unpack`: pexes on this machine, without a supervisor."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from base.errors import PexRefused
from runtime.cli.options import CONFIG, FILE, ExitStatus, load_settings, show_progress

if TYPE_CHECKING:
    from runtime.pex.file import PexFile
    from runtime.settings import Settings


@click.command()
@click.argument("pex", type=FILE)
@click.option("--base", "base_pex", type=FILE, help="Base to check it against [default: the one in dist/ that fits].")
@click.option("--dist-path", metavar="PATH", help="Folder to look for a base in.")
@click.option("--run", "runs", is_flag=True, help="Start a worker of the model, too, which warms up and checks how it answers batches.")
@CONFIG
def check(pex: Path, base_pex: Path | None, dist_path: str | None, runs: bool, config: Path | None) -> None:
    """Validate PEX against this machine and its base.

    Nothing in PEX is run without --run.
    """
    from runtime.cli.views.pex import size_as_text  # noqa: PLC0415
    from runtime.pex.file import read_pex  # noqa: PLC0415

    chosen = load_settings({"dist_path": dist_path}, config)
    found = read_pex(pex)
    packages_bytes = sum(each.size_bytes for each in found.distributions.values())
    click.echo(f"{found.path.name}: {found.kind} {found.name} {found.version}")
    click.echo(f"  size           {size_as_text(found.size_bytes)}")
    click.echo(f"  distributions  {len(found.distributions)}, {size_as_text(packages_bytes)} in total")
    if found.interpreter_constraints:
        click.echo(f"  interpreter    {', '.join(found.interpreter_constraints)}")
    if voucher := _voucher(pex, chosen):
        click.echo(f"  trusted        {voucher}")
    if found.kind == "model":
        _check_model(found, base_pex, chosen)
        if runs:
            _run_model(pex, base_pex, chosen)


def _voucher(pex: Path, chosen: Settings) -> str:
    """Returns who vouches for the file; empty if every pex is trusted."""
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
        raise PexRefused(f"{on.path.name} is the model {on.name}, not a base: name a base with --base")
    warnings = check_pex(model, on)
    click.echo(f"  base           {on.version}, {on.path}")
    click.echo(f"  endpoints      {', '.join(f'{name} = {value}' for name, value in model.endpoints.items())}")
    for warning in warnings:
        click.echo(f"  warning: {warning}")


def _run_model(pex: Path, base_pex: Path | None, chosen: Settings) -> None:
    from runtime.cli.local.trial import start_once  # noqa: PLC0415

    started_s = time.monotonic()
    warnings = start_once(pex, base_pex, chosen, show_progress)
    click.echo(f"  started        ready after {time.monotonic() - started_s:.1f} s")
    for warning in warnings:
        click.echo(f"  warning: {warning}")


@click.command()
@click.option("--dist-path", metavar="PATH", help="Folder of the pexes to unpack.")
@click.option("--cache-path", metavar="PATH", help="Folder to unpack them into.")
@CONFIG
@click.pass_context
def unpack(ctx: click.Context, dist_path: str | None, cache_path: str | None, config: Path | None) -> None:
    """Unpack the pexes in dist/ into the cache ahead of time.

    They start faster then. Run it, for instance, when an image is built.
    """
    from runtime.pex.cache.prefetch import Prefetcher  # noqa: PLC0415
    from runtime.pex.cache.store import PexCache  # noqa: PLC0415
    from runtime.pex.names import find_pexes  # noqa: PLC0415

    chosen = load_settings({"dist_path": dist_path, "cache_path": cache_path}, config)
    pexes = find_pexes(chosen.dist_path)
    store = PexCache(chosen.cache_path, show_progress)
    try:
        whole = Prefetcher(store, click.echo, show_progress).unpack_all(pexes)
    finally:
        store.close()
    ctx.exit(ExitStatus.OK if whole else ExitStatus.FAILED)
