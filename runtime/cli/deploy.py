"""`pexdock deploy`: validates a pex, puts it into dist/, waits for its outcome, and exits with it."""

from __future__ import annotations

import contextlib
import hashlib
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from base.errors import PexdockError, PexRefused
from runtime.cli.options import ADMIN_URL, FILE, ExitStatus, new_client, show_json, show_progress, with_settings

if TYPE_CHECKING:
    from runtime.admin.client.client import AdminClient
    from runtime.admin.client.progress import DeployedFile, Stage
    from runtime.pex.dist_file import PublishedFile
    from runtime.settings import Settings
    from runtime.supervisor.status.state import State

_CHUNK_BYTES = 256 * 1024


@click.command()
@click.argument("pex", type=FILE)
@click.option("--name", metavar="FILE", help="Name of the file in dist/ [default: that of PEX].")
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0), default=300.0, show_default=True, help="Seconds to wait.")
@click.option("--wait-probation", is_flag=True, help="Wait until the release has passed its probation.")
@click.option("--stand-by", is_flag=True, help="Succeed even if a pin, a split or a newer release keeps the release on standby.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@ADMIN_URL
@with_settings
def deploy(settings: Settings, pex: Path, name: str | None, timeout_s: float, admin: str | None, **flags: bool) -> None:
    """Deploy PEX to a running Pexdock, and wait until it serves.

    PEX is validated, then put into dist/. If it is refused or fails, dist/ is restored as it was; on another machine, the file stays there.
    So does the file of a release that is rolled back, which can be promoted.

    Ctrl-C ends only the waiting.

    Exits with 0 if it serves; with 1 if it is refused, fails, is rolled back or stands by; and with 3 after --timeout.
    """
    from runtime.admin.client.progress import Outcome  # noqa: PLC0415

    client = new_client(settings, admin)
    deadline = time.monotonic() + timeout_s
    name = name or pex.name
    placed = _PlacedFiles()
    try:
        with contextlib.closing(placed), client.watch_models(lambda: deadline - time.monotonic()) as states:
            before = next(states)
            _check(pex, name, before, local=client.is_local)
            sha256 = _put(client, before, pex, name, placed)
            end = _follow(states, _deployed_file(name, sha256, before), wait_probation=flags["wait_probation"])
            if end.outcome in {Outcome.REFUSED, Outcome.FAILED}:
                placed.withdraw()
                if not client.is_local:
                    show_progress(f"{name} stays in dist/ on the other machine: remove it there, or deploy a file that replaces it")
    except KeyboardInterrupt:
        show_progress("\nstopped waiting; the deployment goes on, see `pexdock models`")
        sys.exit(ExitStatus.INTERRUPTED)
    _finish(end, name, sha256, as_json=flags["as_json"], stand_by=flags["stand_by"])


class _PlacedFiles:
    """The files that were put into dist/ on this machine, the signature first."""

    def __init__(self) -> None:
        self.files: list[PublishedFile] = []

    def withdraw(self) -> None:
        """Restores dist/ as it was before, unless somebody else has changed a file since."""
        try:
            withdrawn = [file.withdraw() for file in reversed(self.files)]
        except OSError as exc:
            show_progress(f"dist/ could not be restored: {exc}")
        else:
            if any(withdrawn):
                show_progress("dist/ is as it was before")

    def close(self) -> None:
        """Forgets the files that were replaced."""
        for file in self.files:
            file.close()


def _check(pex: Path, name: str, state: State, *, local: bool) -> None:
    """Validates the pex as `pexdock check` does, but not against bases in dist/ on another machine, which are unknown here.

    Raises:
        PexRefused: The pex cannot be served, was rolled back, or another file in dist/ has the same name and version.
    """
    from packaging.utils import canonicalize_name  # noqa: PLC0415

    from runtime.pex.bases import check_against_bases  # noqa: PLC0415
    from runtime.pex.file import read_pex  # noqa: PLC0415

    found, sha256 = read_pex(pex), _sha256(pex)
    for model in state.models:
        for old in model.rolled_back:
            if old.sha256 == sha256:
                advice = f"to serve it nevertheless, run `pexdock promote {model.name} {old.version}`"
                raise PexRefused(f"{model.name} {old.version} was rolled back: {old.reason}; {advice}")
    for other in state.releases:
        same = (other.kind, canonicalize_name(other.name), other.version) == (found.kind, canonicalize_name(found.name), found.version)
        file = Path(state.dist_path, other.file)
        is_gone = local and not (file.is_file() and _sha256(file) == other.sha256)  # its release may serve nevertheless
        if same and other.file != name and other.state not in {"refused", "failed"} and not is_gone:
            if other.sha256 != sha256:
                raise PexRefused(
                    f"{other.file} is {found.name} {found.version} with other content: raise the version, or deploy with --name"
                )
            advice = f"; to serve it, run `pexdock promote {other.name} {other.version}`" if found.kind == "model" else ""
            raise PexRefused(f"dist/ has the same pex already, as {other.file}{advice}")
    if found.kind == "model" and local:
        for warning in check_against_bases(found, Path(state.dist_path))[1]:
            show_progress(f"warning: {warning}")


def _put(client: AdminClient, state: State, pex: Path, name: str, placed: _PlacedFiles) -> str:
    """Puts the pex into dist/, after its signature if there is one, and returns its sha256. Files on this machine are added to `placed`."""
    signature = pex.with_name(f"{pex.name}.sig")
    if signature.exists():
        _put_file(client, state, signature, f"{name}.sig", placed)
    return _put_file(client, state, pex, name, placed)


def _put_file(client: AdminClient, state: State, file: Path, name: str, placed: _PlacedFiles) -> str:
    if state.dist_url:
        raise PexdockError(f"dist/ mirrors {state.dist_url}: copy the file there")
    with contextlib.ExitStack() as stack:
        size_bytes = file.stat().st_size
        chunks = stack.enter_context(_chunks(file, name, size_bytes))
        if client.is_local:
            return _copy(chunks, Path(state.dist_path), name, placed)
        return client.upload(name, chunks, _sha256(file), size_bytes).sha256


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _copy(chunks: Iterable[bytes], folder: Path, name: str, placed: _PlacedFiles) -> str:
    from runtime.pex.dist_file import open_dist_file  # noqa: PLC0415

    try:
        with open_dist_file(folder, name) as drop:
            for chunk in chunks:
                drop.write(chunk)
            placed.files.append(drop.publish(keep_previous=True))
            return drop.sha256
    except OSError as exc:
        raise PexdockError(f"cannot write {name} to {folder}: {exc.strerror or exc}") from exc


@contextlib.contextmanager
def _chunks(file: Path, name: str, size_bytes: int) -> Iterator[Iterable[bytes]]:
    """Yields the file in chunks, with a progress bar on a terminal."""
    with file.open("rb") as content:
        chunks = iter(lambda: content.read(_CHUNK_BYTES), b"")
        if not sys.stderr.isatty() or size_bytes < 10 * _CHUNK_BYTES:
            yield chunks
            return
        with click.progressbar(chunks, length=-(-size_bytes // _CHUNK_BYTES), label=f"{name}: copying", file=sys.stderr) as bar:
            yield bar


def _follow(states: Iterator[State], deployed: DeployedFile, *, wait_probation: bool) -> Stage:
    from runtime.admin.client.follow import follow  # noqa: PLC0415
    from runtime.admin.client.progress import WAITING_FOR_FILE, deploy_stage  # noqa: PLC0415

    def stage_of(state: State) -> Stage:
        return deploy_stage(state, deployed, wait_probation=wait_probation)

    advice = "the file is in dist/, and is deployed when it starts again"
    return follow(states, stage_of, WAITING_FOR_FILE, lambda line: show_progress(f"{deployed.file}: {line}"), advice)


def _deployed_file(name: str, sha256: str, before: State) -> DeployedFile:
    from runtime.admin.client.progress import DeployedFile  # noqa: PLC0415

    return DeployedFile(name, sha256, max((release.order for release in before.releases), default=-1))


def _finish(end: Stage, name: str, sha256: str, *, as_json: bool, stand_by: bool) -> NoReturn:
    from runtime.admin.client.progress import Outcome  # noqa: PLC0415

    assert end.outcome is not None
    release = end.release
    good = end.outcome is Outcome.SERVES or (stand_by and end.outcome is Outcome.STANDS_BY)
    if as_json:
        known = {"name": release.name, "version": release.version, "log": release.log} if release else {}
        show_json({"file": name, "sha256": sha256, "outcome": end.outcome.value, "detail": end.text, **known})
    else:
        title = f"{release.name} {release.version}" if release and release.name else name
        text = end.text if end.outcome is Outcome.SERVES else f"{end.outcome.label}: {end.text}"
        click.echo(click.style(f"{title} {text}", fg="green" if good else "red"), err=not good)
        for line in release.log if release and not good else []:
            click.echo(f"  | {line}", err=True)
    if good:
        sys.exit(ExitStatus.OK)
    sys.exit(ExitStatus.TIMED_OUT if end.outcome is Outcome.TIMEOUT else ExitStatus.FAILED)
