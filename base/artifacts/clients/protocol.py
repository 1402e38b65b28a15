"""Where artifacts lie: what a client finds, and the protocol that every client follows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from base.errors import NotFound


def _nothing() -> None:
    """There is nothing to let go of."""


@dataclass(frozen=True)
class Artifact:
    """A file or folder that `load_model` can read now.

    Attributes:
        location: absolute and without symbolic links.
        fingerprint: another one at the same location means other content; None where the client cannot tell, and every refresh loads anew.
        size_bytes: of the file, or of all files of the folder; None where the client cannot tell.
        release: the cache calls it once when the model that was made of this is gone, or was never made. Until then the client must keep
            the file, since a model may read on from it. It may be called from any thread.
    """

    location: Path
    fingerprint: str | None = None
    size_bytes: int | None = None
    release: Callable[[], None] = field(default=_nothing, compare=False)


class Client(Protocol):
    """Finds artifacts. Any object with these members will do; a class need not inherit from this one.

        class Catalogue:
            parameters = ("name",)

            def locate(self, parameters):
                path = look_up(parameters["name"])       # raise NotFound where there is none
                return afs.Artifact(path, fingerprint=str(path.stat().st_mtime_ns))

            def list(self):
                return []

    Where a spec declares a `LatestKey` with a manifest, the client also needs `manifest`, see `ManifestClient`.
    """

    @property
    def parameters(self) -> Sequence[str]:
        """The names that `locate` needs; an endpoint's path must have them all."""
        ...

    def locate(self, parameters: Mapping[str, str]) -> Artifact:
        """The artifact for these parameters; names that it does not know are ignored. Called on a loader thread: it may block.

        Raises:
            NotFound: the store says that there is none. The message goes to the caller: it names parameters, never places.
            Misfit: a value could lead out of the store.
            Unavailable: the store cannot be asked now. A model that is already there goes on serving.
        """
        ...

    def list(self) -> Iterable[Mapping[str, str]]:
        """Parameters of the artifacts that are there, newest first. May be empty where listing is not possible."""
        ...


class ManifestClient(Client, Protocol):
    """A client that can also read what a manifest says."""

    def manifest(self, parameters: Mapping[str, str], name: str, file: str) -> str:
        """The value that the manifest gives for the parameter `name`: the text of `file`, without white space at its ends.

        The file lies where the path template has the component with `{name}`, in that component's stead:
        `{country}/v{n}/model.bin` and a manifest `LATEST` for `n` mean `{country}/LATEST`.

        Raises:
            NotFound: there is no manifest.
            Misfit, Unavailable: as in `locate`.
        """
        ...


class NoStore:
    """The client of models that are made from data instead of a file: there is nothing to find.

    It lists the empty set of parameters, so that an endpoint without any can have its model made ahead.
    """

    parameters: Sequence[str] = ()

    def locate(self, parameters: Mapping[str, str]) -> Artifact:
        """Raises NotFound: there is no artifact, and a cache asks for none."""
        raise NotFound("a model that is made from data has no artifact")

    def list(self) -> list[dict[str, str]]:
        """One set of no parameters."""
        return [{}]
