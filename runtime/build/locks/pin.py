"""A pinned distribution, in whatever form a lock has it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True, order=True)
class Pin:
    """One distribution that a lock pins.

    Attributes:
        name: Its canonical name.
        version: The pinned version; may be empty if there is a link.
        hashes: Accepted digests of its files, in the form that pip accepts (`sha256:...`); empty for folders and repositories.
        link: Address to take it from instead of an index: of an archive, of a commit (`git+https://...@<commit>`), or of a folder (`file://`).
        options: Lines of pip's options that say where to look for it, besides the indexes that pip is configured with.
    """

    name: str
    version: str = ""
    hashes: tuple[str, ...] = ()
    link: str = ""
    options: tuple[str, ...] = ()

    @property
    def folder(self) -> Path | None:
        """The folder of the project that it is built from, if the link names one."""
        path = Path(unquote(urlsplit(self.link).path)) if self.link.startswith("file:") else None
        return path if path is not None and path.is_dir() else None

    @property
    def line(self) -> str:
        """Its line in a requirements file."""
        what = f"{self.name} @ {self.link}" if self.link else f"{self.name}=={self.version}"
        return " ".join([what, *(f"--hash={value}" for value in self.hashes)])


def git_link(url: str, commit: str, subdirectory: str | None = None) -> str:
    """Returns the link of a commit."""
    return f"git+{url.removeprefix('git+')}@{commit}{f'#subdirectory={subdirectory}' if subdirectory else ''}"
