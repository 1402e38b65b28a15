"""Where requests lead under the routing table in force: to which endpoint of which release, with which parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
from packaging.utils import canonicalize_name

from base.errors import NotFound, Unavailable
from base.ipc.front_door_control import RoutingTable, SplitSpec
from base.ipc.release_spec import ReleaseSpec
from runtime.front.memory.body_buffer import BodyBuffer
from runtime.front.requests.endpoint import ServedEndpoint, ServedRelease
from runtime.front.requests.hints import VERSION_HEADER, hints_from_headers
from runtime.front.requests.request_head import RequestHead, Selection
from runtime.front.requests.target import Target
from runtime.front.routing.mirroring import RequestMirror
from runtime.front.routing.path_trie import PathTrie
from runtime.front.routing.traffic_split import ReleaseSelector, SplitRoute, TrafficSplit, split_route_of

_TARGETS_MAX = 4096
"""Paths that are known without routing them again: more than most models have variants, and some megabytes at most."""


class RouteTable:
    """All endpoints of the releases that a routing table names, and what was learned of paths since.

    Attributes:
        cached_target: Returns where a path leads that was routed before; None for all others. It is the method of a dict, because this is
            called for every new head.
    """

    def __init__(self) -> None:
        self._router: PathTrie[ServedEndpoint] = PathTrie()
        self._targets: dict[bytes, Target] = {}
        self.cached_target: Callable[[bytes], Target | None] = self._targets.get
        self._models: dict[str, list[ServedRelease]] = {}
        self._shares: dict[ServedRelease, TrafficSplit] = {}

    def apply_table(self, table: RoutingTable, releases: Sequence[ServedRelease], copying: Mapping[str, RequestMirror]) -> None:
        """Follows another table, of which these are the releases; `copying` has those that get copies, by id."""
        self._targets.clear()
        self._models, self._shares = {}, {}
        for release in releases:
            self._models.setdefault(canonicalize_name(release.spec.model), []).append(release)
        sharing: dict[str, SplitSpec] = {canonicalize_name(model): each for model, each in table.splits.items()}
        for model, each in self._models.items():
            if len(each) > 1 or model in sharing:
                self._shares |= dict.fromkeys(each, TrafficSplit(sharing.get(model), each, copying))
        self._router = PathTrie()
        for endpoint in self.endpoints:  # of those with equal paths the last wins
            self._router.add_path(endpoint.spec.path, endpoint)

    @property
    def endpoints(self) -> list[ServedEndpoint]:
        """All in force; of a model's the heaviest release's are the last."""
        return [
            endpoint
            for releases in self._models.values()
            for release in (self._shares[releases[0]].by_weight() if releases[0] in self._shares else releases)
            for endpoint in release.endpoints
        ]

    def documented_specs(self) -> list[ReleaseSpec]:
        """What people are told of: of each model the endpoints of its heaviest release, and of others those whose paths it has not."""
        found: list[ReleaseSpec] = []
        for first, *_ in self._models.values():
            shares = self._shares.get(first)
            paths: set[str] = set()
            for release in [first] if shares is None else shares.serving:
                mine = [each for each in release.spec.endpoints if each.path not in paths]
                paths |= {each.path for each in mine}
                found.append(msgspec.structs.replace(release.spec, endpoints=mine))
        return found

    def unavailable_models(self) -> list[str]:
        """The models of which no release that serves is up."""
        return [
            first.spec.model for first, *_ in self._models.values() if not (self._shares[first].up if first in self._shares else first.up)
        ]

    @staticmethod
    def always_batched(target: Target) -> bool:
        """Returns whether requests for a split target share batches in all releases, and nothing else need be known of its path."""
        split_route = split_route_of(target)
        return split_route is None or split_route.always_batched

    def route(self, raw_path: bytes) -> Target | None:
        """Where a path leads, as it came over the wire; None where no endpoint has such a path.

        Raises:
            Misfit, TooLarge: a parameter's value is none that it may have.
        """
        found = self._targets.get(raw_path)
        if found is None:
            match = self._router.match(raw_path)
            if match is None:
                return None
            shares = self._shares.get(match.target.release)
            if shares is None:
                found = Target(match.target, match.parameters, raw_path)
            else:
                fork = SplitRoute(shares, shares.match_targets(raw_path))
                found = fork.primary_target
                fork.primary_target.split_route, found.split = fork, True
            if len(self._targets) >= _TARGETS_MAX:
                self._targets.clear()
            self._targets[raw_path] = found
        return found

    def request_head(self, target: Target, headers: Mapping[bytes, bytes], content_type: str, accept: str) -> RequestHead:
        """What a head says whose path leads to `target`.

        Raises:
            NotFound: it asks for a release that is not there or has no such path.
            Malformed: what it says of its time is no time.
        """
        said = hints_from_headers(headers)
        version = headers.get(VERSION_HEADER, b"").decode("latin-1").strip()
        asked = RequestHead(self._wanted(target, version) if version else target, content_type, accept, version)
        asked.apply_hints(said)
        split_route = split_route_of(target)
        if split_route is not None and not version:
            selector = split_route.make_selector(headers, content_type, accept)
            selector.wishes = said
            asked.selector = selector
        return asked

    def select(self, asked: RequestHead, body: bytes | BodyBuffer) -> Selection:
        """Chooses the release that answers a request under the table in force, which may not be the one under which its head came.

        Raises:
            Unavailable: The release that has taken over batches requests in another way.
            NotFound: The request asks for a release that is not there or has no such path.
        """
        selector = asked.selector
        if selector is None:
            return self._reroute(asked, None, body)
        drawn = selector.select_release(body)
        if not drawn.head.target.endpoint.release.retiring:
            return drawn
        return self._reroute(asked, selector if isinstance(selector, ReleaseSelector) else None, body)

    def _reroute(self, asked: RequestHead, lot: ReleaseSelector | None, body: bytes | BodyBuffer) -> Selection:
        """Chooses anew under another table; `lot` chose before, if anything did."""
        target = self.route(asked.target.path)
        if target is not None and asked.version:
            target = self._wanted(target, asked.version)
        if target is None or target.endpoint.spec.unbatched != asked.target.endpoint.spec.unbatched:
            raise Unavailable("the model was replaced while the request came; try again")
        split_route = split_route_of(target)
        if split_route is None or asked.version:
            same = RequestHead(target, asked.content_type, asked.accept, asked.version)
            same.apply_hints(asked.hints)
            return Selection(same, None)
        other = ReleaseSelector(split_route, None if lot is None else lot.affinity_header, asked.content_type, asked.accept)
        other.wishes = asked.hints
        return other.select_release(body)

    def _wanted(self, target: Target, version: str) -> Target:
        release = target.endpoint.release
        shares = self._shares.get(release) or TrafficSplit(None, [release])
        wanted = shares.release_by_name(version)
        if wanted is release:
            return target
        split_route = split_route_of(target)
        found = None if split_route is None else split_route.targets.get(wanted.id)
        if found is None:
            raise NotFound(f"{wanted.spec.model} {wanted.spec.version} has no endpoint at this path")
        return found
