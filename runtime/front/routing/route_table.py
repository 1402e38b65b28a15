"""Routes requests under the routing table in force: from a path to an endpoint of a release, and its parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
from packaging.utils import canonicalize_name

from base.endpoint.path import METHODS, routed_path
from base.errors import NotFound, Unavailable
from base.ipc.front_door_control import ReservedPath, RoutingTable, SplitSpec
from base.ipc.release_spec import ReleaseSpec
from runtime.front.codecs.rows import Rows
from runtime.front.memory.body_buffer import BodyBuffer
from runtime.front.requests.endpoint import ServedEndpoint, ServedRelease
from runtime.front.requests.hints import VERSION_HEADER, hints_from_headers
from runtime.front.requests.request_head import RequestHead, Selection
from runtime.front.requests.target import Target
from runtime.front.routing.canonical_path import canonical_path
from runtime.front.routing.mirroring import RequestMirror
from runtime.front.routing.path_trie import PathTrie
from runtime.front.routing.split_route import ReleaseSelector, SplitRoute, split_route_of
from runtime.front.routing.traffic_split import TrafficSplit

_TARGETS_MAX, _CACHED_PATH_MAX_BYTES = 4096, 1024
"""Limits of cached paths. Most models have fewer variants, and the cache takes a few megabytes at most."""


class RouteTable:
    """Routes paths to the endpoints of the releases in a routing table, and caches the paths that it has routed.

    All spellings of a path lead to the target of its canonical form.

    Attributes:
        cached_target: Returns the target of a path that was routed before; None if it was not. It is a method of a dict, because it is
            called for every new head.
    """

    def __init__(self) -> None:
        self._trie: PathTrie[ServedEndpoint | ReservedPath] = PathTrie()
        self._paths_known = False
        self._targets: dict[bytes, Target] = {}
        self.cached_target: Callable[[bytes], Target | None] = self._targets.get
        self._releases_by_model: dict[str, list[ServedRelease]] = {}
        self._splits: dict[ServedRelease, TrafficSplit] = {}

    def apply_table(self, table: RoutingTable, releases: Sequence[ServedRelease], mirrors: Mapping[str, RequestMirror]) -> None:
        """Replaces the routing table in force.

        Args:
            table: The routing table.
            releases: Its releases.
            mirrors: Mirrors of the releases that get copies, by release id.
        """
        self._targets.clear()
        self._releases_by_model, self._splits = {}, {}
        for release in releases:
            self._releases_by_model.setdefault(canonicalize_name(release.spec.model), []).append(release)
        specs: dict[str, SplitSpec] = {canonicalize_name(model): spec for model, spec in table.splits.items()}
        for model, siblings in self._releases_by_model.items():
            if len(siblings) > 1 or model in specs:
                self._splits |= dict.fromkeys(siblings, TrafficSplit(specs.get(model), siblings, mirrors))
        self._paths_known = table.paths_known
        self._trie = PathTrie()
        for endpoint in self._endpoints():
            self._trie.add_path(routed_path(endpoint.spec.method, endpoint.spec.path), endpoint)
        for reserved in table.reserved:
            self._trie.add_path(reserved.path, reserved)

    def _endpoints(self) -> list[ServedEndpoint]:
        """Returns all endpoints. Those of each model's primary release come last, so that they win if paths are equal."""
        return [
            endpoint
            for releases in self._releases_by_model.values()
            for release in (self._splits[releases[0]].by_weight() if releases[0] in self._splits else releases)
            for endpoint in release.endpoints
        ]

    def documented_specs(self) -> list[ReleaseSpec]:
        """Returns the specs for the OpenAPI document: each model's primary release, and further paths of its other weighted releases."""
        specs: list[ReleaseSpec] = []
        for first, *_ in self._releases_by_model.values():
            split = self._splits.get(first)
            paths: set[str] = set()
            for release in [first] if split is None else split.weighted:
                added = [each for each in release.spec.endpoints if routed_path(each.method, each.path) not in paths]
                paths |= {routed_path(each.method, each.path) for each in added}
                specs.append(msgspec.structs.replace(release.spec, endpoints=added))
        return specs

    def models_up(self) -> dict[str, bool]:
        """Returns the normalized name of each model in the table → whether a serving release is up."""
        firsts = {name: releases[0] for name, releases in self._releases_by_model.items()}
        return {name: self._splits[first].up if first in self._splits else first.up for name, first in firsts.items()}

    @staticmethod
    def always_batched(target: Target) -> bool:
        """Returns whether requests for a target share batches in every release, and no parameters need to be checked."""
        route = split_route_of(target)
        return route is None or route.always_batched

    def route(self, raw_path: bytes, query: bytes = b"") -> Target | None:
        """Returns the target of a path and a query as received; None if no endpoint has such a path.

        Args:
            raw_path: The path, behind the method if that is not POST (`base.endpoint.path.routed_path`).
            query: The query.

        Raises:
            Misfit, TooLarge: A parameter has an invalid value.
            Unavailable: The path belongs to a model that cannot answer now, or may belong to one that is not known yet.
        """
        target = self._targets.get(raw_path)
        if target is None:
            path = canonical_path(raw_path)
            target = self._targets.get(path) or self._make_target(path)
            if target is not None:
                self._cache_target(path, target)
                self._cache_target(raw_path, target)
        if target is None or not query or not target.takes_query:
            return target
        url = b"%b?%b" % (raw_path, query)
        with_query = self._targets.get(url)
        if with_query is None and (with_query := self._make_target(target.path, query)) is not None:
            self._cache_target(url, with_query)
        return with_query

    def route_request(self, method: str, raw_path: bytes, query: bytes) -> Target | None:
        """Returns the target of a request with this method, as `route`."""
        return self.route(raw_path if method == "POST" else method.encode() + raw_path, query)

    def methods_at(self, raw_path: bytes) -> list[str]:
        """Returns the methods with which endpoints have a path as received.

        Raises:
            Misfit, TooLarge, Unavailable: As `route`.
        """
        return [method for method in METHODS if self.route_request(method, raw_path, b"") is not None]

    def _make_target(self, path: bytes, query: bytes = b"") -> Target | None:
        match = self._trie.match(path)
        if match is None:
            if self._paths_known:
                return None
            raise Unavailable("no endpoint has this path so far, but some models are still starting; try again later")
        found = match.target
        if isinstance(found, ReservedPath):
            raise Unavailable(f"model {found.model} is {found.state}; try again later", retry_after_s=found.retry_after_s)
        split = self._splits.get(found.release)
        if split is None:
            return Target(found, match.parameters, path, query)
        return SplitRoute(split, path, query).primary_target

    def reserving_model(self, raw_path: bytes) -> str | None:
        """Returns the model that a path as received is reserved for; None if it is not reserved.

        Raises:
            Misfit, TooLarge: A parameter has an invalid value.
        """
        match = self._trie.match(canonical_path(raw_path))
        return match.target.model if match is not None and isinstance(match.target, ReservedPath) else None

    def _cache_target(self, path: bytes, target: Target) -> None:
        if len(path) <= _CACHED_PATH_MAX_BYTES:
            if len(self._targets) >= _TARGETS_MAX:
                self._targets.clear()
            self._targets[path] = target

    def request_head(self, target: Target, headers: Mapping[bytes, bytes], content_type: str, accept: str) -> RequestHead:
        """Returns the head of requests whose path leads to a target.

        Raises:
            NotFound: The headers request a release that does not exist or does not have this path.
            Malformed: The time limit in the headers, or the query, is invalid.
            Misfit: The query does not have the parameters of the endpoint.
        """
        hints = hints_from_headers(headers)
        version = headers.get(VERSION_HEADER, b"").decode("latin-1").strip()
        head = RequestHead(self._target_of_version(target, version) if version else target, content_type, accept, version)
        head.apply_hints(hints)
        route = split_route_of(target)
        if route is not None and not version:
            head.selector = route.make_selector(headers, hints, content_type, accept)
        else:
            head.target.require_valid()
        return head

    def select(self, head: RequestHead, body: bytes | BodyBuffer, rows: Rows | None = None, *, is_read: bool = False) -> Selection:
        """Chooses the release that answers a request by the table in force, which may be newer than the head.

        Args:
            head: The request's head.
            body: The request's body.
            rows: What the head's selector has read of the body, if `is_read`.
            is_read: Whether it has read the body.

        Raises:
            Unavailable: The path belongs to another model now, or its new release batches requests in another way.
            NotFound: The requested release does not exist or does not have this path.
        """
        selector = head.selector
        if selector is None:
            return self._reroute(head, None, body)
        selection = selector.select_release(rows if is_read else selector.read_body(body))
        if not selection.head.target.endpoint.release.retiring:
            return selection
        return self._reroute(head, selector.affinity_value if isinstance(selector, ReleaseSelector) else None, body)

    def _reroute(self, head: RequestHead, affinity_value: bytes | None, body: bytes | BodyBuffer) -> Selection:
        """Chooses a release again for a head of an older table."""
        target = self.route(head.target.path, head.target.query)
        if target is not None and head.version:
            target = self._target_of_version(target, head.version)
        before = head.target.endpoint
        if target is None or not _takes_alike(target, head.target) or not _same_model(target.endpoint, before):
            raise Unavailable("the model was replaced while the request arrived; try again")
        route = split_route_of(target)
        if route is None or head.version:
            target.require_valid()
            new_head = RequestHead(target, head.content_type, head.accept, head.version)
            new_head.apply_hints(head.hints)
            return Selection(new_head, None)
        again = ReleaseSelector(route, affinity_value, head.hints, head.content_type, head.accept)
        return again.select_release(again.read_body(body))

    def _target_of_version(self, target: Target, version: str) -> Target:
        release = target.endpoint.release
        split = self._splits.get(release) or TrafficSplit(None, [release])
        wanted = split.release_by_name(version)
        if wanted is release:
            return target
        route = split_route_of(target)
        found = None if route is None else route.targets.get(wanted.id)
        if found is None:
            raise NotFound(f"{wanted.spec.model} {wanted.spec.version} has no endpoint at this path")
        return found


def _takes_alike(one: Target, other: Target) -> bool:
    return one.endpoint.spec.unbatched == other.endpoint.spec.unbatched and one.takes_query == other.takes_query


def _same_model(one: ServedEndpoint, other: ServedEndpoint) -> bool:
    return canonicalize_name(one.release.spec.model) == canonicalize_name(other.release.spec.model)
