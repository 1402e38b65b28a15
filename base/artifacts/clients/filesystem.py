"""FsClient: finds artifacts in a folder of this machine."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from base.artifacts.clients.path_template import PathTemplate, parse_templates
from base.artifacts.clients.protocol import Artifact
from base.disk.copies import copy_durably
from base.errors import NotFound, Unavailable
from base.log import get_logger

log = get_logger(__name__)

ARTIFACTS_PATH_VARIABLE = "PEXDOCK_ARTIFACTS_PATH"
"""Environment variable with the folder of relative base paths; by default the working directory."""


class FsClient:
    """Finds artifacts in a folder of this machine.

    Args:
        base_path: The folder. A relative path is resolved against `$PEXDOCK_ARTIFACTS_PATH` if that is set, else against the working
            directory, at each use and never at import.
        path_template: The path of an artifact in the folder, as in `PathTemplate`. Further templates are fallbacks: the first whose file or
            folder exists is used, so that `["{country}/{subdivision}", "{country}/any"]` serves a subdivision's model, else the country's.

    Raises:
        Declaration: A template is invalid, or there is none.
    """

    def __init__(self, base_path: Path | str, path_template: str | Sequence[str]) -> None:
        self.base_path = Path(base_path)
        self.templates = parse_templates(path_template)
        self.parameters: Sequence[str] = tuple(dict.fromkeys(name for template in self.templates for name in template.parameters))

    def __repr__(self) -> str:
        return f"FsClient({str(self.base_path)!r}, {[template.text for template in self.templates]})"

    def locate(self, parameters: Mapping[str, str]) -> Artifact:
        """Returns an artifact, see `Client.locate`.

        If a symbolic link leads out of the base path, the artifact is not found, and its fallbacks are not tried.
        """
        found = self._first([template.format(parameters) for template in self.templates])
        if found is None:
            raise NotFound("no artifact for " + ", ".join(f"{name}={parameters[name]!r}" for name in self.parameters))
        fingerprint, size_bytes = fingerprint_files(found)
        return Artifact(found, fingerprint, size_bytes)

    def manifest(self, parameters: Mapping[str, str], name: str, file: str) -> str:
        """Returns the value in a manifest, see `ManifestClient.manifest`."""
        found = self._first([path for template in self.templates if (path := template.manifest_path(parameters, name, file)) is not None])
        if found is None or not found.is_file():
            raise NotFound(f"no manifest gives the latest {name}")
        return found.read_text().strip()

    def list(self) -> list[dict[str, str]]:
        """Lists the artifacts, see `Client.list`. An artifact of a fallback lacks the parameters that its template does not have."""
        root = self._root()
        found: dict[tuple[tuple[str, str], ...], float] = {}
        for template in self.templates:
            for relative in _walk(root, template, PurePosixPath()):
                parameters = template.match(relative)
                if parameters is not None:
                    found.setdefault(tuple(sorted(parameters.items())), _modified(root / relative))
        return [dict(key) for key in sorted(found, key=lambda key: (-found[key], key))]

    def store(self, parameters: Mapping[str, str], source: Path) -> None:
        """Stores a file by the first template, see `StoringClient.store`. It is on disk when this returns."""
        path = self._inside(self.templates[0].format(parameters))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            copy_durably(source, path, path.with_name(f".{path.name}.{secrets.token_hex(8)}"))
        except OSError as exc:
            log.warning("cannot store %s: %s", path, exc)
            raise Unavailable(f"the artifact store is unavailable: {exc.strerror}; try again later") from exc

    def delete(self, parameters: Mapping[str, str]) -> None:
        """Deletes a file, and folders that are empty then, see `StoringClient.delete`."""
        root, path = self._root(), self._inside(self.templates[0].format(parameters))
        try:
            path.unlink(missing_ok=True)
            for folder in path.parents:
                if folder == root or not folder.is_relative_to(root) or next(folder.iterdir(), None) is not None:
                    break
                folder.rmdir()
        except FileNotFoundError:
            return  # somebody else deletes it, too
        except OSError as exc:
            log.warning("cannot delete %s: %s", path, exc)
            raise Unavailable(f"the artifact store is unavailable: {exc.strerror}; try again later") from exc

    def find(self, parameters: Mapping[str, str]) -> Iterator[dict[str, str]]:
        """Yields the parameters of artifacts with these values, see `StoringClient.find`."""
        root = self._root()
        for template in self.templates:
            for relative in _walk(root, template, template.prefix(parameters)):
                found = template.match(relative)
                if found is not None and parameters.items() <= found.items():
                    yield found

    def _inside(self, relative: PurePosixPath) -> Path:
        """Returns the path of an artifact that may not exist yet.

        Raises:
            NotFound: A symbolic link leads out of the base path.
        """
        root = self._root()
        path = root / relative
        if not path.parent.resolve().is_relative_to(root):
            log.warning("%s leads out of the base path %s and is not written", path, root)
            raise NotFound("the artifact is not in the store")
        return path

    def _first(self, candidates: Sequence[PurePosixPath]) -> Path | None:
        root = self._root()
        for relative in candidates:
            resolved = _resolved(root / relative)
            if resolved is None:
                continue
            if resolved.is_relative_to(root):
                return resolved
            log.warning("%s leads out of the base path %s and is not served", root / relative, root)
            return None
        return None

    def _root(self) -> Path:
        base = self.base_path.expanduser()
        if not base.is_absolute():
            base = Path(os.environ.get(ARTIFACTS_PATH_VARIABLE) or Path.cwd()) / base
        return base.resolve()


def fingerprint_files(path: Path) -> tuple[str, int]:
    """Returns fingerprint and bytes of a file, or of all files of a folder. The fingerprint covers names, sizes, times and inodes."""
    digest, size_bytes = hashlib.sha256(), 0
    for file in _files(path):
        try:
            stat = file.stat()
        except OSError:  # deleted meanwhile, or a dangling link: the next fingerprint differs
            continue
        digest.update(f"{file.relative_to(path)}\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ino}\0".encode(errors="surrogateescape"))
        size_bytes += stat.st_size
    return digest.hexdigest(), size_bytes


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders.sort()
        yield from (Path(folder) / name for name in sorted(names))


def _resolved(path: Path) -> Path | None:
    """Returns the path without symbolic links; None if it does not exist or is not accessible."""
    try:
        return path.resolve(strict=True)
    except (OSError, RuntimeError):  # missing, too long or not permitted; a cycle of links is a RuntimeError before Python 3.13
        return None


def _walk(root: Path, template: PathTemplate, folder: PurePosixPath) -> Iterator[PurePosixPath]:
    """Yields the relative paths that are as deep as the template and may match it; skips folders that cannot lead to a match."""
    try:
        names = sorted(entry.name for entry in os.scandir(root / folder))
    except OSError:  # deleted meanwhile, not a folder, or not permitted
        return
    for name in names:
        path = folder / name
        if not template.may_lead_to(path):
            continue
        if len(path.parts) == template.depth:
            resolved = _resolved(root / path)
            if resolved is not None and resolved.is_relative_to(root):
                yield path
        else:
            yield from _walk(root, template, path)


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # deleted meanwhile: counts as the oldest
        return 0.0
