"""`pexdock deploy`: checks a pex, drops it whole, follows what becomes of it, and ends as that does."""

from __future__ import annotations

import contextlib
import hashlib
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from base.errors import PexdockError
from runtime.cli.options import ADMIN_VARIABLE, client_of, settled, show_json

if TYPE_CHECKING:
    from runtime.admin.client.client import AdminClient
    from runtime.admin.client.progress import DeployedFile, Stage
    from runtime.settings import Settings
    from runtime.supervisor.status.state import State

_PIECE_BYTES = 256 * 1024


@click.command()
@click.argument("pex", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--name", metavar="FILE", help="Its name in dist/ [default: as it is].")
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0), default=300.0, show_default=True, help="Seconds to follow it.")
@click.option("--wait-probation", is_flag=True, help="Follow it until its probation is over.")
@click.option("--stand-by", is_flag=True, help="It need not serve: that a pin, a split or a newer release keeps it ready is well, too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: what has become of it.")
@click.option("--admin", metavar="URL", envvar=ADMIN_VARIABLE, help="Send it to a supervisor over TCP; --admin-token-path says with what.")
@settled
def deploy(settings: Settings, pex: Path, name: str | None, timeout_s: float, admin: str | None, **how: bool) -> None:
    """Check PEX, put it into dist/ of a running Pexdock, and follow it until it serves or does not.

    Ends with 0 if it serves, 1 if it is refused, fails, is taken back or stands by, and 3 after --timeout. Ctrl-C ends the following alone.
    """
    from runtime.admin.client.follow import INTERRUPTED  # noqa: PLC0415

    client = client_of(settings, admin)
    deadline = time.monotonic() + timeout_s
    name = name or pex.name
    try:
        with client.watch_models(lambda: deadline - time.monotonic()) as states:
            before = next(states)
            _check(pex, before, local=client.is_local)
            sha256 = _dropped(client, before, pex, name)
            end = _followed(states, _drop_of(name, sha256, before), prove=how["wait_probation"])
    except KeyboardInterrupt:
        click.echo("\nnot followed any more; what was dropped goes its way: see `pexdock models`", err=True)
        sys.exit(INTERRUPTED)
    _end(end, name, sha256, as_json=how["as_json"], stand_by=how["stand_by"])


def _check(pex: Path, state: State, *, local: bool) -> None:
    """As `pexdock check` does; where dist/ is on another machine, what its bases are is not known here."""
    from runtime.pex.bases import check_against_bases  # noqa: PLC0415
    from runtime.pex.file import read_pex  # noqa: PLC0415

    found = read_pex(pex)
    if found.kind == "model" and local:
        for warning in check_against_bases(found, Path(state.dist_path))[1]:
            click.echo(f"warning: {warning}", err=True)


def _dropped(client: AdminClient, state: State, pex: Path, name: str) -> str:
    """Its sha256, once it lies in dist/; its signature, if there is one, lies there before it."""
    signature = pex.with_name(f"{pex.name}.sig")
    if signature.exists():
        _drop(client, state, signature, f"{name}.sig")
    return _drop(client, state, pex, name)


def _drop(client: AdminClient, state: State, file: Path, name: str) -> str:
    if state.dist_url:
        raise PexdockError(f"dist/ of this Pexdock follows {state.dist_url}: put the file there")
    with contextlib.ExitStack() as stack:
        size_bytes = file.stat().st_size
        pieces = stack.enter_context(_progress(file, name, size_bytes))
        if not client.is_local:
            with file.open("rb") as content:
                sha256 = hashlib.file_digest(content, "sha256").hexdigest()
            return client.upload(name, pieces, sha256, size_bytes).sha256
        return _copied(pieces, Path(state.dist_path), name)


def _copied(pieces: Iterable[bytes], folder: Path, name: str) -> str:
    from runtime.pex.dist_file import open_dist_file  # noqa: PLC0415

    try:
        with open_dist_file(folder, name) as drop:
            for piece in pieces:
                drop.write(piece)
            drop.publish()
            return drop.sha256
    except OSError as exc:
        raise PexdockError(f"{name} cannot be written to {folder}: {exc.strerror or exc}") from exc


@contextlib.contextmanager
def _progress(file: Path, name: str, size_bytes: int) -> Iterator[Iterable[bytes]]:
    """The file in pieces; on a terminal a bar shows how many have gone."""
    with file.open("rb") as content:
        pieces = iter(lambda: content.read(_PIECE_BYTES), b"")
        if not sys.stderr.isatty() or size_bytes < 10 * _PIECE_BYTES:
            yield pieces
            return
        with click.progressbar(pieces, length=-(-size_bytes // _PIECE_BYTES), label=f"{name}: copying", file=sys.stderr) as bar:
            yield bar


def _followed(states: Iterator[State], drop: DeployedFile, *, prove: bool) -> Stage:
    from runtime.admin.client.follow import follow  # noqa: PLC0415
    from runtime.admin.client.progress import deploy_stage  # noqa: PLC0415

    rest = "what was dropped lies in dist/, and is looked at when it starts"
    return follow(states, lambda state: deploy_stage(state, drop, prove=prove), drop.file, "waits until the file stays as it is", rest)


def _drop_of(name: str, sha256: str, before: State) -> DeployedFile:
    from runtime.admin.client.progress import DeployedFile  # noqa: PLC0415

    return DeployedFile(name, sha256, max((release.order for release in before.releases), default=-1))


def _end(end: Stage, name: str, sha256: str, *, as_json: bool, stand_by: bool) -> NoReturn:
    from runtime.admin.client.follow import exit_code  # noqa: PLC0415
    from runtime.admin.client.progress import Outcome  # noqa: PLC0415

    assert end.outcome is not None
    release = end.release
    if as_json:
        known = {"name": release.name, "version": release.version, "log": release.log} if release else {}
        show_json({"file": name, "sha256": sha256, "outcome": end.outcome.value, "detail": end.text, **known})
    good = end.outcome is Outcome.SERVES or (stand_by and end.outcome is Outcome.STANDS_BY)
    if not as_json:
        title = f"{release.name} {release.version}" if release and release.name else name
        said = end.text if end.outcome is Outcome.SERVES else f"{end.outcome.value}: {end.text}"
        click.echo(click.style(f"{title} {said}", fg="green" if good else "red"), err=not good)
        for line in release.log if release and not good else []:
            click.echo(f"  | {line}", err=True)
    sys.exit(exit_code(end.outcome, good=good))
