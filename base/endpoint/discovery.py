"""Finds the release in a running environment: the distribution that declares endpoints, and the endpoints.

A model declares them as standard entry points, so that plain packaging is enough:

    [project.entry-points."pexdock.endpoints"]
    predict = "iris.endpoints:predict"
    other_endpoints = "iris.endpoints:others"      # an entry point may also name a list or tuple of endpoints
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
    """The release that an environment holds.

    Attributes:
        model: Name of the distribution in its normal form (PEP 503: `legacy_iris` is `legacy-iris`).
        version: Version of the distribution.
        endpoints: The endpoints, in the order of the names of their entry points.
    """

    model: str
    version: str
    endpoints: list[AnyEndpoint]


def discover(path: Sequence[str] | None = None) -> DiscoveredRelease:
    """Imports the endpoints of the only distribution that declares any.

    Args:
        path: Folders that are searched for distributions; `sys.path` if None.

    Raises:
        Declaration: No distribution declares endpoints, or more than one does; or an entry point cannot be imported, is not an endpoint,
            or has the same path as another. The message names the entry point.
    """
    distribution = _only_distribution(_declaring_distributions(path))
    points = sorted((each for each in distribution.entry_points if each.group == GROUP), key=lambda each: each.name)
    owners: dict[str, str] = {}
    endpoints: list[AnyEndpoint] = []
    for point in points:
        for endpoint in _load_endpoints(point):
            _check_path_is_free(owners, endpoint, point)
            endpoints.append(endpoint)
    return DiscoveredRelease(canonicalize_name(distribution.metadata["Name"]), distribution.version, endpoints)


def _declaring_distributions(path: Sequence[str] | None) -> dict[str, Distribution]:
    """Returns the distributions with endpoints by name. If several have one name, the first on the path counts, which Python imports."""
    found: dict[str, Distribution] = {}
    for each in distributions() if path is None else distributions(path=list(path)):
        found.setdefault(canonicalize_name(each.metadata["Name"]), each)
    return {name: each for name, each in found.items() if any(point.group == GROUP for point in each.entry_points)}


def _only_distribution(found: dict[str, Distribution]) -> Distribution:
    if not found:
        raise Declaration(
            f'no installed distribution declares endpoints; add [project.entry-points."{GROUP}"] to the model\'s pyproject.toml'
        )
    if len(found) > 1:
        raise Declaration(f"more than one distribution declares endpoints: {', '.join(sorted(found))}; install only one of them")
    return next(iter(found.values()))


def _load_endpoints(point: EntryPoint) -> Iterator[AnyEndpoint]:
    try:
        loaded = point.load()
    except (Exception, SystemExit) as exc:  # importing runs the author's code: everything that it raises is reported as the author's error
        reason = f"its code calls sys.exit({exc.code!r})" if isinstance(exc, SystemExit) else f"{type(exc).__name__}: {exc}"
        raise Declaration(f"entry point {_shown(point)} cannot be imported: {reason}") from exc
    several = isinstance(loaded, list | tuple)
    if several and not loaded:
        raise Declaration(f"entry point {_shown(point)} is an empty {type(loaded).__name__}; list at least one endpoint")
    for each in loaded if several else [loaded]:
        if not isinstance(each, Endpoint):
            raise Declaration(
                f"entry point {_shown(point)} is of type {type(each).__name__}, not an endpoint: "
                "name a function that is decorated with @endpoint, or a list of them"
            )
        yield each


def _check_path_is_free(owners: dict[str, str], endpoint: AnyEndpoint, point: EntryPoint) -> None:
    """Records the entry point as the owner of the endpoint's path.

    Raises:
        Declaration: Another entry point has an endpoint that would answer the same requests.
    """
    if endpoint.path_shape in owners:
        raise Declaration(
            f"entry point {_shown(point)} has the path {endpoint.path}, which entry point {owners[endpoint.path_shape]} has already"
        )
    owners[endpoint.path_shape] = _shown(point)


def _shown(point: EntryPoint) -> str:
    return f"{point.name} = {point.value!r}"
