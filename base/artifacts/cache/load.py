"""Loads the model of one entry. Runs on a loader thread, without the lock of the cache."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from base.artifacts.cache.entry import LoadedCopy
from base.artifacts.clients.protocol import Artifact
from base.artifacts.config import CacheConfig
from base.artifacts.spec import SpecValidator
from base.errors import LoadFailed, Misfit, NotFound
from base.schema.constraints import shorten_value


def load_copy(
    config: CacheConfig, requested: Mapping[str, str], parameters: Mapping[str, str], known: Artifact | None
) -> LoadedCopy | None:
    """Loads the model for these parameters; returns None if its artifact has not changed.

    Args:
        config: Client, loader and spec.
        requested: The parameters as a request gave them.
        parameters: The same parameters as the spec validated them.
        known: The artifact of the model that is already loaded; None if there is none.

    Raises:
        PexdockError: Raised by the client.
        BaseException: Raised by the author's code.
    """
    if config.from_data:
        instance = config.validate_parameters(requested)
        return _make_copy(config, dict(requested) if instance is None else instance, None, {})
    found = resolve_latest(config, parameters)
    artifact = config.client.locate(found)
    if _is_unchanged(artifact, known):
        artifact.release()
        return None
    try:
        latest = {name: value for name, value in found.items() if value != parameters[name]}
        return _make_copy(config, _argument(config, artifact), artifact, latest)
    except BaseException:
        artifact.release()
        raise


def resolve_latest(config: CacheConfig, parameters: Mapping[str, str]) -> Mapping[str, str]:
    """Returns the parameters, with the newest value in place of `latest`.

    Raises:
        NotFound: Neither a manifest nor a listing gives the newest value.
        LoadFailed: The spec rejects the value that the manifest gives.
    """
    validator = config.spec_validator
    latest_request = None if validator is None else validator.latest_request(parameters)
    if validator is None or latest_request is None:
        return parameters
    field, name, key = latest_request
    if key.manifest is not None:
        return _checked(validator, {**parameters, name: config.client.manifest(parameters, name, key.manifest)}, name)
    listed = [(value, found[name]) for found in config.client.list() for value in _field_value(validator, field, name, parameters, found)]
    if not listed:
        raise NotFound("there is no latest artifact for " + ", ".join(f"{each}={parameters[each]!r}" for each in parameters))
    latest = functools.reduce(lambda best, other: other if key.compare_with(other[0], best[0]) else best, listed)
    return {**parameters, name: latest[1]}


def _checked(validator: SpecValidator, found: Mapping[str, str], name: str) -> Mapping[str, str]:
    try:
        validator.validate(found)
    except Misfit as exc:
        raise LoadFailed(f"the manifest gives {name} as {shorten_value(found[name])}, which the spec rejects") from exc
    return found


def _field_value(validator: SpecValidator, field: str, name: str, parameters: Mapping[str, str], found: Mapping[str, str]) -> list[Any]:
    """Returns a list with the validated value of a listed artifact; empty if the artifact has other parameters."""
    if name not in found:
        return []
    try:
        exact = {each: found.get(each, value) for each, value in parameters.items() if each != name} | {name: found[name]}
        instance, texts = validator.validate(exact), validator.canonical_parameters(exact)
    except Misfit:
        return []
    alike = all(texts[each] == value for each, value in parameters.items() if each != name)
    return [getattr(instance, field)] if alike else []


def _is_unchanged(artifact: Artifact, known: Artifact | None) -> bool:
    if known is None or artifact.fingerprint is None:
        return False
    return (artifact.location, artifact.fingerprint) == (known.location, known.fingerprint)


def _argument(config: CacheConfig, artifact: Artifact) -> str | bytes:
    if not config.fetches_bytes:
        return str(artifact.location)
    if not artifact.location.is_file():
        raise LoadFailed("load_as='bytes' needs an artifact that is a file, but this one is a folder")
    return artifact.location.read_bytes()


def _make_copy(config: CacheConfig, argument: Any, artifact: Artifact | None, latest: Mapping[str, str]) -> LoadedCopy:
    model = config.load_model(argument)
    artifact_bytes = 0 if artifact is None else artifact.size_bytes or 0
    return LoadedCopy(model, artifact, artifact_bytes if config.size_of is None else int(config.size_of(model)), latest)
