"""Finds the release in a running environment: the distribution that declares endpoints, and the endpoints.

A model declares them as standard entry points, so that plain packaging is enough:

    [project.entry-points."pexdock.endpoints"]
    predict = "iris.endpoints:predict"
    all_the_others = "iris.endpoints:others"      # a list or tuple of endpoints will do as well
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution, EntryPoint, distributions
from typing import Any, NamedTuple

from packaging.utils import canonicalize_name

from base.endpoint.endpoint import Endpoint
from base.errors import Declaration

GROUP = "pexdock.endpoints"

AnyEndpoint = Endpoint[Any, Any]


class DiscoveredRelease(NamedTuple):
    """A release as its environment holds it.

    Attributes:
        model: the name of the distribution, in its normal form (PEP 503: `legacy_iris` is `legacy-iris`).
        version: as the distribution says it.
        endpoints: in the order of the names of their entry points.
    """

    model: str
    version: str
    endpoints: list[AnyEndpoint]


def discover(path: Sequence[str] | None = None) -> DiscoveredRelease:
    """Imports the endpoints of the one distribution that declares any.

    Args:
        path: where to look for distributions; `sys.path` if None.

    Raises:
        Declaration: no distribution declares endpoints, or more than one does; or an entry point cannot be imported, is no
            endpoint, or has a path that another one has. The message names the entry point.
    """
    distribution = _only(_declaring(path))
    points = sorted((each for each in distribution.entry_points if each.group == GROUP), key=lambda each: each.name)
    taken: dict[str, str] = {}
    endpoints: list[AnyEndpoint] = []
    for point in points:
        for endpoint in _endpoints(point):
            _take(taken, endpoint, point)
            endpoints.append(endpoint)
    return DiscoveredRelease(canonicalize_name(distribution.metadata["Name"]), distribution.version, endpoints)


def _declaring(path: Sequence[str] | None) -> dict[str, Distribution]:
    """By name; the first on the path of each name, since that is the one that is imported."""
    found: dict[str, Distribution] = {}
    for each in distributions() if path is None else distributions(path=list(path)):
        found.setdefault(canonicalize_name(each.metadata["Name"]), each)
    return {name: each for name, each in found.items() if any(point.group == GROUP for point in each.entry_points)}


def _only(found: dict[str, Distribution]) -> Distribution:
    if not found:
        raise Declaration(f'no distribution here declares endpoints: add [project.entry-points."{GROUP}"] to the model\'s pyproject.toml')
    if len(found) > 1:
        raise Declaration(f"more than one distribution declares endpoints: {', '.join(sorted(found))}; a release is one of them")
    return next(iter(found.values()))


def _endpoints(point: EntryPoint) -> Iterator[AnyEndpoint]:
    try:
        loaded = point.load()
    except (Exception, SystemExit) as exc:  # importing runs the author's code: whatever it raises is reported as theirs
        raise Declaration(f"entry point {_named(point)} cannot be imported: {type(exc).__name__}: {exc}") from exc
    several = isinstance(loaded, list | tuple)
    if several and not loaded:
        raise Declaration(f"entry point {_named(point)} is an empty {type(loaded).__name__}")
    for each in loaded if several else [loaded]:
        if not isinstance(each, Endpoint):
            raise Declaration(
                f"entry point {_named(point)} is a {type(each).__name__}, not an endpoint: "
                "name a function that is decorated with @endpoint, or a list of them"
            )
        yield each


def _take(taken: dict[str, str], endpoint: AnyEndpoint, point: EntryPoint) -> None:
    if endpoint.path_shape in taken:
        raise Declaration(
            f"entry point {_named(point)} has the path {endpoint.path}, which entry point {taken[endpoint.path_shape]} has already"
        )
    taken[endpoint.path_shape] = _named(point)


def _named(point: EntryPoint) -> str:
    return f"{point.name} = {point.value!r}"
