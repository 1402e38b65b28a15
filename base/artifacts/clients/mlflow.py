"""MlflowClient: models of an MLflow registry, and artifacts of MLflow runs."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from base.artifacts.clients.protocol import Artifact
from base.artifacts.clients.downloads import MAX_BYTES, Downloads
from base.artifacts.clients.path_template import PathTemplate
from base.errors import Cell, Declaration, Misfit, NotFound, PexdockError, Unavailable

log = logging.getLogger(__name__)

_MODEL = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>[^/@]+))")
_RUN = re.compile(r"runs:/(?P<run>[^/]+)/(?P<path>.+)")
_NOT_THERE = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"})
"""MLflow's codes for what it has not: an alias that is not set, and a version that is no number, are the latter."""
_RETRIES = ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
"""MLflow asks a server that is gone for four minutes (7 times, with pauses), and takes other wishes from the environment only."""


@dataclass(frozen=True)
class _Found:
    """What the server says of an artifact: where its files are, under which name, and what changes when they do."""

    uri: str
    name: str
    stamp: str


class MlflowClient:
    """Artifacts that MLflow keeps. Downloads are kept on disk and shared by the workers of this machine, see `Downloads`.

    Args:
        uri: what is meant, with parameters as in `PathTemplate`: `models:/{name}@{alias}`, `models:/{name}/{version}` or
            `runs:/{run_id}/{path}`. Any of the parameters may be plain text instead.
        tracking_uri: of the server, which is also the registry; None means what MLflow's own settings say (`MLFLOW_TRACKING_URI`).
        cache_path: the folder for downloads; see `Downloads`.
        cache_max_bytes: of all downloads.

    An alias is looked up at each load and refresh, so that a refresh serves what it was moved to. Where the environment does not say how
    often MLflow asks a server that does not answer, this sets it to a few times.

    Raises:
        Declaration: the URI is none of these.
    """

    def __init__(
        self, uri: str, tracking_uri: str | None = None, *, cache_path: Path | str | None = None, cache_max_bytes: int = MAX_BYTES
    ) -> None:
        model, run = _MODEL.fullmatch(uri), _RUN.fullmatch(uri)
        found = model or run
        if found is None:
            raise Declaration(f"MlflowClient: {uri!r} is none of models:/name@alias, models:/name/version and runs:/run_id/path")
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
        """See `Client.locate`. Asks the server, and downloads what is not on disk yet."""
        parts = {part: str(template.format(parameters)) for part, template in self._parts.items()}
        if any("@" in parts.get(part, "") for part in ("name", "alias", "version")):
            names = [name for name in self.parameters if "@" in parameters[name]]
            raise Misfit("a parameter may not hold '@'", cells=[Cell(None, name, "may not hold '@'") for name in names])
        with self._errors(parameters):
            found = self._run(parts["run"], parts["path"]) if "run" in parts else self._model(parts)
            fingerprint = hashlib.sha256(f"{self.tracking_uri}\0{found.uri}\0{found.stamp}".encode()).hexdigest()
            return self._downloads.artifact(fingerprint, found.name, lambda path: self._fetch(found, path))

    def list(self) -> list[dict[str, str]]:
        """See `Client.list`: every version, or every alias, of the registry that fits the URI. Of runs nothing is listed."""
        if "run" in self._parts:
            return []
        with self._errors({}):
            known = self._aliases() if "alias" in self._parts else self._versions()
            newest_first = [parts for _, parts in sorted(known, key=lambda each: -each[0])]
        return [found for parts in newest_first if (found := self._match(parts)) is not None]

    def _match(self, parts: Mapping[str, str]) -> dict[str, str] | None:
        """The parameters that lead to these parts."""
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

    def _model(self, parts: Mapping[str, str]) -> _Found:
        api, name = self._tracking(), parts["name"]
        version = (
            api.get_model_version_by_alias(name, parts["alias"]) if "alias" in parts else api.get_model_version(name, parts["version"])
        )
        uri = api.get_model_version_download_uri(name, version.version)
        return _Found(uri, "model", f"{name} {version.version} {version.creation_timestamp} {version.source}")

    def _run(self, run: str, path: str) -> _Found:
        """A run may log to the same path again: names and sizes, and the time of the run's end, are all that the server tells of it."""
        api = self._tracking()
        info = api.get_run(run).info
        files = sorted((each.path, each.file_size) for each in _below(api, run, path))
        if not files:
            raise NotFound(f"the run {run!r} has no such artifact")
        return _Found(f"runs:/{run}/{path}", PurePosixPath(path).name, f"{info.end_time} {files}")

    def _fetch(self, found: _Found, path: Path) -> None:
        import mlflow  # noqa: PLC0415 - as below

        part = path.parent / ".part"
        part.mkdir()
        local = mlflow.artifacts.download_artifacts(artifact_uri=found.uri, dst_path=str(part), tracking_uri=self.tracking_uri)
        Path(local).rename(path)
        shutil.rmtree(part, ignore_errors=True)

    def _tracking(self) -> Any:
        """MLflow's own client. Importing MLflow takes over a second, so it waits for the first use, on a loader thread."""
        with self._lock:
            if self._api is None:
                from mlflow.tracking import MlflowClient as Api  # noqa: PLC0415

                self._api = Api(self.tracking_uri, self.tracking_uri)
            return self._api

    @contextmanager
    def _errors(self, parameters: Mapping[str, str]) -> Iterator[None]:
        """What MLflow raises: it has no such thing, or cannot be asked."""
        try:
            yield
        except PexdockError:
            raise
        except Exception as exc:
            if getattr(exc, "error_code", None) in _NOT_THERE:
                shown = ", ".join(f"{name}={parameters[name]!r}" for name in self.parameters)
                raise NotFound(f"no artifact for {shown}") from exc
            log.warning("%r: %s: %s", self, type(exc).__name__, exc)
            raise Unavailable("the artifact store cannot be read now") from exc


def _pages(search: Any) -> Iterator[Any]:
    token = None
    while True:
        page = search(page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _below(api: Any, run: str, path: str) -> Iterator[Any]:
    """The file with this path, or all files below it. The server lists a folder; it says of a file only that it stands in one."""
    parent = PurePosixPath(path).parent
    beside = api.list_artifacts(run, None if parent == PurePosixPath() else str(parent))
    for each in beside:
        if each.path == path:
            yield from _files(api, run, each)


def _files(api: Any, run: str, found: Any) -> Iterator[Any]:
    if not found.is_dir:
        yield found
        return
    for each in api.list_artifacts(run, found.path):
        yield from _files(api, run, each)
