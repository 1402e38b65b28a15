"""Artifacts, and the protocol of the clients that find them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from base.errors import NotFound


def _nothing() -> None:
    """Releases nothing: the default of an artifact without resources."""


@dataclass(frozen=True)
class Artifact:
    """A file or folder that `load_model` can read.

    Attributes:
        location: Absolute path without symbolic links.
        fingerprint: Changes with the content at the location; None if the client does not know it, so that every refresh loads anew.
        size_bytes: Size of the file, or of all files of the folder; None if the client does not know it.
        release: Called once, from any thread, when the model made of the artifact is gone or could not be made. Until then the client must
            keep the file, since a model may still read from it.
    """

    location: Path
    fingerprint: str | None = None
    size_bytes: int | None = None
    release: Callable[[], None] = field(default=_nothing, compare=False)


class Client(Protocol):
    """Finds artifacts. Any object with these members is a client; its class need not inherit from this one.

        class Catalogue:
            parameters = ("name",)

            def locate(self, parameters):
                path = look_up(parameters["name"])       # raises NotFound if there is none
                return afs.Artifact(path, fingerprint=str(path.stat().st_mtime_ns))

            def list(self):
                return []

    For a spec that declares a `LatestKey` with a manifest the client also needs `manifest`; see `ManifestClient`.
    """

    @property
    def parameters(self) -> Sequence[str]:
        """Returns the names that `locate` needs; an endpoint's path must have all of them."""
        ...

    def locate(self, parameters: Mapping[str, str]) -> Artifact:
        """Returns the artifact for these parameters, and ignores other names. Runs on a loader thread, so it may block.

        Raises:
            NotFound: The store has no such artifact. The message goes to the client of the request: it names parameters, never paths.
            Misfit: A value could lead out of the store.
            Unavailable: The store cannot be reached. A model that is already loaded continues to serve.
        """
        ...

    def list(self) -> Iterable[Mapping[str, str]]:
        """Returns the parameters of the existing artifacts, newest first. May be empty if listing is not possible."""
        ...


class ManifestClient(Client, Protocol):
    """A client that can also read manifests."""

    def manifest(self, parameters: Mapping[str, str], name: str, file: str) -> str:
        """Returns the value that the manifest gives for the parameter `name`: the text of `file` without surrounding white space.

        The path of the manifest is that of the template up to the component with `{name}`, which `file` replaces: for
        `{country}/v{n}/model.bin` the manifest `LATEST` of `n` is `{country}/LATEST`.

        Raises:
            NotFound: There is no manifest.
            Misfit, Unavailable: As in `locate`.
        """
        ...


class StoringClient(Client, Protocol):
    """A client that can also store artifacts, as fitted contexts need it."""

    def store(self, parameters: Mapping[str, str], source: Path) -> None:
        """Stores a copy of a file as the artifact for these parameters. Others see it as a whole or not at all.

        Raises:
            Misfit: A value could lead out of the store.
            Unavailable: The store cannot be reached or has no room. Nothing was stored.
        """
        ...

    def delete(self, parameters: Mapping[str, str]) -> None:
        """Deletes the artifact for these parameters, if there is one.

        Raises:
            Misfit, Unavailable: As in `store`.
        """
        ...

    def find(self, parameters: Mapping[str, str]) -> Iterable[Mapping[str, str]]:
        """Returns the parameters of the existing artifacts that have these values, in any order.

        Raises:
            Misfit, Unavailable: As in `store`.
        """
        ...


class NoStore:
    """The client of models that are made from data instead of a file.

    It lists the empty set of parameters, so that the model of an endpoint without parameters can be prefetched.
    """

    parameters: Sequence[str] = ()

    def locate(self, parameters: Mapping[str, str]) -> Artifact:  # noqa: ARG002 - as clients are called
        """Raises NotFound: there are no artifacts, and caches do not ask for any."""
        raise NotFound("a model made from data has no artifact")

    def list(self) -> list[dict[str, str]]:
        """Returns one empty set of parameters."""
        return [{}]
