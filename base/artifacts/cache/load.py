"""How a model is made for an entry. Runs on a loader thread, without the lock of the cache."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from base.artifacts.clients.protocol import Artifact
from base.artifacts.config import CacheConfig
from base.artifacts.cache.entry import LoadedCopy
from base.artifacts.spec import SpecValidator
from base.schema.constraints import shorten_value
from base.errors import LoadFailed, Misfit, NotFound


def load_copy(config: CacheConfig, asked: Mapping[str, str], parameters: Mapping[str, str], known: Artifact | None) -> LoadedCopy | None:
    """The model for these parameters, or None if its artifact is still `known`.

    Args:
        config: client, loader and spec.
        asked: the parameters as a request gave them.
        parameters: the same as the spec validated them.
        known: what the model that is there was made of.

    Raises:
        PexdockError: what the client says.
        BaseException: what the author's code raises.
    """
    if config.from_data:
        instance = config.validate_parameters(asked)
        return _copy(config, dict(asked) if instance is None else instance, None, {})
    found = resolve_latest(config, parameters)
    artifact = config.client.locate(found)
    if _same(artifact, known):
        artifact.release()
        return None
    try:
        latest = {name: value for name, value in found.items() if value != parameters[name]}
        return _copy(config, _argument(config, artifact), artifact, latest)
    except BaseException:
        artifact.release()
        raise


def resolve_latest(config: CacheConfig, parameters: Mapping[str, str]) -> Mapping[str, str]:
    """The parameters, with the newest value for the one that asks for the latest.

    Raises:
        NotFound: nothing tells what the newest is.
        LoadFailed: what tells it names a value that the spec does not admit.
    """
    reader = config.spec_validator
    asked = None if reader is None else reader.latest_request(parameters)
    if reader is None or asked is None:
        return parameters
    field, name, key = asked
    if key.manifest is not None:
        return _admitted(reader, {**parameters, name: config.client.manifest(parameters, name, key.manifest)}, name)
    listed = [(value, found[name]) for found in config.client.list() for value in _value(reader, field, name, parameters, found)]
    if not listed:
        raise NotFound("there is no latest artifact for " + ", ".join(f"{each}={parameters[each]!r}" for each in parameters))
    latest = functools.reduce(lambda best, other: other if key.compare_with(other[0], best[0]) else best, listed)
    return {**parameters, name: latest[1]}


def _admitted(reader: SpecValidator, found: Mapping[str, str], name: str) -> Mapping[str, str]:
    try:
        reader.validate(found)
    except Misfit as exc:
        raise LoadFailed(f"the manifest says that {name} is {shorten_value(found[name])}, which the spec does not admit") from exc
    return found


def _value(reader: SpecValidator, field: str, name: str, parameters: Mapping[str, str], found: Mapping[str, str]) -> list[Any]:
    """The validated value of a listed artifact, in a list; none if it is not one for these parameters."""
    if name not in found:
        return []
    try:
        exact = {each: found.get(each, value) for each, value in parameters.items() if each != name} | {name: found[name]}
        instance, texts = reader.validate(exact), reader.canonical_parameters(exact)
    except Misfit:
        return []
    alike = all(texts[each] == value for each, value in parameters.items() if each != name)
    return [getattr(instance, field)] if alike else []


def _same(artifact: Artifact, known: Artifact | None) -> bool:
    if known is None or artifact.fingerprint is None:
        return False
    return (artifact.location, artifact.fingerprint) == (known.location, known.fingerprint)


def _argument(config: CacheConfig, artifact: Artifact) -> str | bytes:
    if not config.fetches_bytes:
        return str(artifact.location)
    if not artifact.location.is_file():
        raise LoadFailed("load_as='bytes' needs an artifact that is one file, and this one is a folder")
    return artifact.location.read_bytes()


def _copy(config: CacheConfig, argument: Any, artifact: Artifact | None, latest: Mapping[str, str]) -> LoadedCopy:
    model = config.load_model(argument)
    artifact_bytes = 0 if artifact is None else artifact.size_bytes or 0
    return LoadedCopy(model, artifact, artifact_bytes if config.size_of is None else int(config.size_of(model)), latest)
