"""MlflowClient: finds models in an MLflow registry, and artifacts of MLflow runs."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from base.artifacts.clients.downloads import MAX_BYTES, Downloads
from base.artifacts.clients.path_template import PathTemplate
from base.artifacts.clients.protocol import Artifact
from base.errors import Cell, Declaration, Misfit, NotFound, PexdockError, Unavailable
from base.log import get_logger

log = get_logger(__name__)

_MODEL = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>[^/@]+))")
_RUN = re.compile(r"runs:/(?P<run>[^/]+)/(?P<path>.+)")
_NOT_THERE = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"})
"""MLflow's error codes for missing objects. An alias that is not set and a version that is not a number are invalid values."""
_RETRIES = ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
"""By default MLflow retries an unreachable server for four minutes (7 times, with pauses); only the environment can change that."""


@dataclass(frozen=True)
class _RemoteArtifact:
    """An artifact as the server describes it.

    Attributes:
        uri: URI of its files.
        name: Name of its file or folder.
        stamp: Text that changes with its content.
    """

    uri: str
    name: str
    stamp: str


class MlflowClient:
    """Finds artifacts in MLflow. Downloads are stored on disk and shared by the workers of this machine; see `Downloads`.

    An alias is looked up at each load and refresh, so that a refresh serves the version that the alias was moved to. MLflow retries
    requests to an unreachable server at most three times, unless the environment sets another number.

    Args:
        uri: The artifact, with parameters as in `PathTemplate`: `models:/{name}@{alias}`, `models:/{name}/{version}` or
            `runs:/{run_id}/{path}`. Each parameter may be plain text instead.
        tracking_uri: URI of the server, which is also the registry; None means MLflow's own setting (`MLFLOW_TRACKING_URI`).
        cache_path: The folder of downloads; see `Downloads`.
        cache_max_bytes: Maximum bytes of all downloads.

    Raises:
        Declaration: The URI has none of these forms.
    """

    def __init__(
        self, uri: str, tracking_uri: str | None = None, *, cache_path: Path | str | None = None, cache_max_bytes: int = MAX_BYTES
    ) -> None:
        model, run = _MODEL.fullmatch(uri), _RUN.fullmatch(uri)
        found = model or run
        if found is None:
            raise Declaration(
                f"MlflowClient: {uri!r} is not supported; write models:/name@alias, models:/name/version or runs:/run_id/path"
            )
        self.uri = uri
        self.tracking_uri = tracking_uri
        self._parts = {part: PathTemplate(text) for part, text in found.groupdict().items() if text is not None}
        self.parameters: Sequence[str] = tuple(dict.fromkeys(name for each in self._parts.values() for name in each.parameters))
        self._downloads = Downloads(cache_path, cache_max_bytes)
        self._lock = threading.Lock()
        self._api: Any = None
        os.environ.setdefault(*_RETRIES)

    def __repr__(self) -> str:
        return f"MlflowClient({self.uri!r}, {self.tracking_uri!r})"

    def locate(self, parameters: Mapping[str, str]) -> Artifact:
        """Returns an artifact, see `Client.locate`. Asks the server, and downloads the artifact unless it is on disk."""
        parts = {part: str(template.format(parameters)) for part, template in self._parts.items()}
        if any("@" in parts.get(part, "") for part in ("name", "alias", "version")):
            names = [name for name in self.parameters if "@" in parameters[name]]
            raise Misfit("a parameter must not contain '@'", cells=[Cell(None, name, "must not contain '@'") for name in names])
        with self._errors(parameters):
            found = self._run(parts["run"], parts["path"]) if "run" in parts else self._model(parts)
            fingerprint = hashlib.sha256(f"{self.tracking_uri}\0{found.uri}\0{found.stamp}".encode()).hexdigest()
            return self._downloads.artifact(fingerprint, found.name, lambda path: self._fetch(found, path))

    def list(self) -> list[dict[str, str]]:
        """Lists the versions or aliases in the registry that match the URI, see `Client.list`. Artifacts of runs are not listed."""
        if "run" in self._parts:
            return []
        with self._errors({}):
            known = self._aliases() if "alias" in self._parts else self._versions()
            newest_first = [parts for _, parts in sorted(known, key=lambda each: -each[0])]
        return [found for parts in newest_first if (found := self._match(parts)) is not None]

    def _match(self, parts: Mapping[str, str]) -> dict[str, str] | None:
        """Returns the parameters that lead to these parts of the URI; None if there are none."""
        found: dict[str, str] = {}
        for part, template in self._parts.items():
            matched = template.match(PurePosixPath(parts[part]))
            if matched is None or any(found.get(name, value) != value for name, value in matched.items()):
                return None
            found |= matched
        return found

    def _aliases(self) -> Iterator[tuple[int, dict[str, str]]]:
        for model in _pages(self._tracking().search_registered_models):
            for alias in model.aliases:
                yield model.last_updated_timestamp or 0, {"name": model.name, "alias": alias}

    def _versions(self) -> Iterator[tuple[int, dict[str, str]]]:
        for version in _pages(self._tracking().search_model_versions):
            yield version.creation_timestamp or 0, {"name": version.name, "version": str(version.version)}

    def _model(self, parts: Mapping[str, str]) -> _RemoteArtifact:
        api, name = self._tracking(), parts["name"]
        version = (
            api.get_model_version_by_alias(name, parts["alias"]) if "alias" in parts else api.get_model_version(name, parts["version"])
        )
        uri = api.get_model_version_download_uri(name, version.version)
        return _RemoteArtifact(uri, "model", f"{name} {version.version} {version.creation_timestamp} {version.source}")

    def _run(self, run: str, path: str) -> _RemoteArtifact:
        """Finds an artifact of a run. A run may log to the same path again, but the server returns only names, sizes and the run's end."""
        api = self._tracking()
        info = api.get_run(run).info
        files = sorted((each.path, each.file_size) for each in _files_at(api, run, path))
        if not files:
            raise NotFound(f"run {run!r} has no such artifact")
        return _RemoteArtifact(f"runs:/{run}/{path}", PurePosixPath(path).name, f"{info.end_time} {files}")

    def _fetch(self, found: _RemoteArtifact, path: Path) -> None:
        import mlflow  # noqa: PLC0415 - see `_tracking`

        part = path.parent / ".part"
        part.mkdir()
        local = mlflow.artifacts.download_artifacts(artifact_uri=found.uri, dst_path=str(part), tracking_uri=self.tracking_uri)
        Path(local).rename(path)
        shutil.rmtree(part, ignore_errors=True)

    def _tracking(self) -> Any:
        """Returns MLflow's own client. Importing MLflow takes over a second, so it is done at the first use, on a loader thread."""
        with self._lock:
            if self._api is None:
                from mlflow.tracking import MlflowClient as Api  # noqa: PLC0415

                self._api = Api(self.tracking_uri, self.tracking_uri)
            return self._api

    @contextmanager
    def _errors(self, parameters: Mapping[str, str]) -> Iterator[None]:
        """Turns errors of MLflow into NotFound, or into Unavailable if the server cannot be reached."""
        try:
            yield
        except PexdockError:
            raise
        except Exception as exc:
            if getattr(exc, "error_code", None) in _NOT_THERE:
                shown = ", ".join(f"{name}={parameters[name]!r}" for name in self.parameters)
                raise NotFound(f"no artifact for {shown}") from exc
            log.warning("%r: %s: %s", self, type(exc).__name__, exc)
            raise Unavailable("the artifact store is unavailable; try again later") from exc


def _pages(search: Any) -> Iterator[Any]:
    token = None
    while True:
        page = search(page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _files_at(api: Any, run: str, path: str) -> Iterator[Any]:
    """Yields the file with this path, or all files below it. The server can only list folders, so the parent is listed."""
    parent = PurePosixPath(path).parent
    siblings = api.list_artifacts(run, None if parent == PurePosixPath() else str(parent))
    for each in siblings:
        if each.path == path:
            yield from _files(api, run, each)


def _files(api: Any, run: str, found: Any) -> Iterator[Any]:
    if not found.is_dir:
        yield found
        return
    for each in api.list_artifacts(run, found.path):
        yield from _files(api, run, each)
