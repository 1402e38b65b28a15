"""Where artifacts lie: the protocol that a client follows, and the client for folders."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from base.artifacts.template import PathTemplate
from base.errors import Declaration, NotFound

log = logging.getLogger(__name__)

ARTIFACTS_PATH_VARIABLE = "PEXDOCK_ARTIFACTS_PATH"
"""Names the folder that relative base paths are meant to lie in; the working directory where it is not set."""


@dataclass(frozen=True)
class Artifact:
    """A file or folder that `load_model` can read now.

    Attributes:
        location: absolute and without symbolic links.
    """

    location: Path


class Client(Protocol):
    """Finds artifacts. Any object with these members will do; a class need not inherit from this one."""

    @property
    def parameters(self) -> Sequence[str]:
        """The names that `locate` needs; an endpoint's path must have them all."""
        ...

    def locate(self, parameters: Mapping[str, str]) -> Artifact:
        """The artifact for these parameters; names that it does not know are ignored. Called on a loader thread: it may block.

        Raises:
            NotFound: there is none. The message goes to the caller: it names parameters, never places.
            Misfit: a value could lead out of the store.
        """
        ...

    def list(self) -> Iterable[Mapping[str, str]]:
        """Parameters of the artifacts that are there, newest first. May be empty where listing is not possible."""
        ...


class FsClient:
    """Artifacts in a folder of this machine.

    Args:
        base_path: the folder. A relative one is meant below `$PEXDOCK_ARTIFACTS_PATH` if that is set, else below the working directory;
            which is looked up at each use, never at import.
        path_template: where in the folder an artifact lies, as in `PathTemplate`. Several are fallbacks: the first whose file or folder
            exists is taken, so that `["{country}/{subdivision}", "{country}/any"]` serves a subdivision's model or else the country's.

    Raises:
        Declaration: a template is wrong, or there is none.
    """

    def __init__(self, base_path: Path | str, path_template: str | Sequence[str]) -> None:
        texts = [path_template] if isinstance(path_template, str) else list(path_template)
        if not texts:
            raise Declaration("FsClient needs at least one path template")
        self.base_path = Path(base_path)
        self.templates = tuple(PathTemplate(text) for text in texts)
        self.parameters: Sequence[str] = tuple(dict.fromkeys(name for template in self.templates for name in template.parameters))

    def __repr__(self) -> str:
        return f"FsClient({str(self.base_path)!r}, {[template.text for template in self.templates]})"

    def locate(self, parameters: Mapping[str, str]) -> Artifact:
        """See `Client.locate`. What a symbolic link takes out of the base path is not found, and its fallbacks are not tried."""
        candidates = [template.format(parameters) for template in self.templates]
        root = self._root()
        for relative in candidates:
            resolved = _resolved(root / relative)
            if resolved is None:
                continue
            if not resolved.is_relative_to(root):
                log.warning("%s leads out of the base path %s: not served", root / relative, root)
                break
            return Artifact(resolved)
        raise NotFound("no artifact for " + ", ".join(f"{name}={parameters[name]!r}" for name in self.parameters))

    def list(self) -> list[dict[str, str]]:
        """See `Client.list`. An artifact of a fallback comes without the parameters that its template does not have."""
        root = self._root()
        found: dict[tuple[tuple[str, str], ...], float] = {}
        for template in self.templates:
            for relative in _walk(root, template, PurePosixPath()):
                parameters = template.match(relative)
                if parameters is not None:
                    found.setdefault(tuple(sorted(parameters.items())), _modified(root / relative))
        return [dict(key) for key in sorted(found, key=lambda key: (-found[key], key))]

    def _root(self) -> Path:
        base = self.base_path.expanduser()
        if not base.is_absolute():
            base = Path(os.environ.get(ARTIFACTS_PATH_VARIABLE) or Path.cwd()) / base
        return base.resolve()


def _resolved(path: Path) -> Path | None:
    """Without symbolic links; None if nothing is there, or nothing that this process may reach."""
    try:
        return path.resolve(strict=True)
    except (OSError, RuntimeError):  # missing, too long, no permission; a circle of links is a RuntimeError before Python 3.13
        return None


def _walk(root: Path, template: PathTemplate, folder: PurePosixPath) -> Iterator[PurePosixPath]:
    """Relative paths as deep as the template that could fit it; folders that cannot are not read."""
    try:
        names = sorted(entry.name for entry in os.scandir(root / folder))
    except OSError:  # gone meanwhile, no folder, no permission
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
    except OSError:  # gone meanwhile: the oldest of all
        return 0.0
