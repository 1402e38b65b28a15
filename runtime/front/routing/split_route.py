"""Chooses a release for requests to one path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from base.errors import NotFound, PexdockError
from base.ipc.numeric_frames import NumericBatch
from runtime.front.codecs.decoder import RowDecoder
from runtime.front.codecs.rows import Rows
from runtime.front.memory.body_buffer import BodyBuffer
from runtime.front.requests.endpoint import ServedEndpoint
from runtime.front.requests.hints import RequestHints
from runtime.front.requests.request_head import RequestHead, Selection, Selector
from runtime.front.requests.target import Target
from runtime.front.routing.traffic_split import TrafficSplit
from runtime.front.routing.weighted_choice import choose_weighted, rank_by_key


class SplitTarget(Target):
    """The target of a path in one of several releases.

    Attributes:
        split_route: Chooses among all releases that have the path; set only in the primary target.
    """

    __slots__ = ("split_route",)

    def __init__(self, endpoint: ServedEndpoint, parameters: Mapping[str, str], path: bytes, query: bytes) -> None:
        super().__init__(endpoint, parameters, path, query)
        self.split_route: SplitRoute | None = None


def split_route_of(target: Target) -> SplitRoute | None:
    """Returns the split route that chooses the release for requests to a target; None if the target is final."""
    return target.split_route if isinstance(target, SplitTarget) else None


class SplitRoute:
    """A path that several releases of a model serve, or one release and a mirror. All requests for a path share one split route.

    Args:
        split: The traffic split of the model, of which at least one release has the path.
        path: The path in its canonical form.
        query: The query as received.

    Attributes:
        targets: Target of the path in each release that has it, by release id.
        weights: Weights of those releases that have one, by release id.
        primary_target: Target that represents the path where only one release can be used.
        fallback_target: Target that answers while no release with a weight can; None if there is none.
        mirror: Mirrors requests for the path; None if they are not mirrored.
        affinity_column: Column whose value in row 0 keeps a client with a release; empty if no column does.

    Raises:
        Misfit, TooLarge: A parameter has an invalid value.
    """

    def __init__(self, split: TrafficSplit, path: bytes, query: bytes) -> None:
        self.split = split
        matches = split.match_path(path)
        self.targets = {each: SplitTarget(match.target, match.parameters, path, query) for each, match in matches.items()}
        targets, takes_query = self.targets, any(each.takes_query for each in self.targets.values())
        self.weights = {each: weight for each, weight in split.weights.items() if each in targets}
        primary = targets.get(split.primary.id) or targets[max(targets, key=lambda each: split.weights.get(each, 0))]
        self.primary_target = primary
        primary.split_route, primary.split = self, True
        for each in targets.values():
            each.takes_query = takes_query
        self.fallback_target = None if split.fallback is None else targets.get(split.fallback.id)
        self.mirror = None if split.mirror is None else split.mirror.for_target(targets.get(split.mirror.mirror.release.id))
        self.affinity_column = split.affinity_name if split.affinity == "column" and not primary.endpoint.spec.raw else ""
        self._affinity_header = split.affinity_name.lower().encode("latin-1", "replace") if split.affinity == "header" else b""
        self._parameter_ranking: list[str] | None = None
        if split.affinity == "parameter":
            value = matches[primary.endpoint.release.id].parameters.get(split.affinity_name)
            self._parameter_ranking = None if value is None else rank_by_key(self.weights, value)

    @property
    def always_batched(self) -> bool:
        """True if requests share batches in every release, and no parameters need to be checked."""
        return bool(self.weights) and all(target.admitted and not target.endpoint.spec.unbatched for target in self.targets.values())

    def make_selector(self, headers: Mapping[bytes, bytes], hints: RequestHints, content_type: str, accept: str) -> ReleaseSelector:
        """Returns the selector for requests with one head.

        Raises:
            NotFound: Only mirror releases and opt-in releases have this path.
        """
        if not self.weights:
            raise NotFound("no serving release has an endpoint at this path")
        value = headers.get(self._affinity_header) if self._affinity_header else None
        return ReleaseSelector(self, value, hints, content_type, accept)

    def ranking(self, affinity_value: bytes | None) -> Sequence[str] | None:
        """Returns the release ids in order of preference for a header's value or for the path; None if neither determines the release."""
        return self._parameter_ranking if affinity_value is None else rank_by_key(self.weights, affinity_value.decode("latin-1"))


class ReleaseSelector(Selector):
    """Chooses the release for requests with one head.

    Args:
        route: The path's releases.
        affinity_value: Value of the header that keeps a client with a release; None without this header.
        hints: Hints of the head.
        content_type: Media type of the bodies.
        accept: Media types that the client accepts.

    Attributes:
        affinity_value: As given.
    """

    __slots__ = ("_accept", "_content_type", "_heads", "_hints", "_ranking", "_route", "affinity_value")

    def __init__(self, route: SplitRoute, affinity_value: bytes | None, hints: RequestHints, content_type: str, accept: str) -> None:
        self._route = route
        self.affinity_value = affinity_value
        self._hints = hints
        self._ranking = route.ranking(affinity_value)
        self._content_type, self._accept = content_type, accept
        self._heads: dict[str, RequestHead] = {}

    def read_body(self, body: bytes | BodyBuffer) -> Rows | None:
        """Returns the rows as the primary release decodes them; None if it cannot, so that the chosen release reports the error."""
        if not self._route.affinity_column:
            return None
        try:
            return RequestHead(self._route.primary_target, self._content_type, self._accept).decode_body(body)
        except PexdockError:
            return None

    def select_release(self, rows: Rows | None) -> Selection:
        """Chooses among the weighted releases that are up, else the fallback, and if that is down too, any weighted release."""
        route, ranking = self._route, self._ranking
        if rows is not None:
            ranking = _rank_by_column(route, rows)
        up = [each for each in route.weights if route.targets[each].endpoint.release.takes_requests]
        fallback = route.fallback_target
        if not up and fallback is not None and fallback.endpoint.release.takes_requests:
            return Selection(self._head_for(fallback.endpoint.release.id), None)
        head = self._head_for(self._choose(up or list(route.weights), ranking))
        reusable = rows is not None and head.target.endpoint.decodes_like(route.primary_target.endpoint)
        return Selection(head, rows if reusable else None)

    def select_by_weight(self) -> RequestHead:
        """Returns the head for a release that is chosen whether it is up or not, since its workers are started afterwards."""
        return self._head_for(self._choose(list(self._route.weights), self._ranking))

    def _choose(self, candidates: Sequence[str], ranking: Sequence[str] | None) -> str:
        route = self._route
        if ranking is not None:
            return next(each for each in ranking if each in candidates)
        if len(candidates) == 1:
            return candidates[0]
        return candidates[choose_weighted([route.weights[each] for each in candidates], route.split.sequence.next_point())]

    def _head_for(self, release_id: str) -> RequestHead:
        head = self._heads.get(release_id)
        if head is None:
            target = self._route.targets[release_id]
            target.require_valid()
            head = self._heads[release_id] = RequestHead(target, self._content_type, self._accept)
            head.apply_hints(self._hints)
            mirror = self._route.mirror
            if mirror is not None and mirror.target is not target and not target.endpoint.spec.unbatched:
                head.mirror = mirror
        return head


def _rank_by_column(route: SplitRoute, rows: Rows) -> list[str] | None:
    value = _first_value(route.primary_target.endpoint.decoder, rows, route.affinity_column)
    return None if value is None else rank_by_key(route.weights, str(value))


def _first_value(decoder: RowDecoder, rows: Rows, column: str) -> object:
    """Returns the value of a column in row 0, which is the same for every media type; None if there is none."""
    if not rows.count:
        return None
    records = rows.records
    if isinstance(records, NumericBatch):
        batch = records.to_record_batch()
    else:
        first = Rows(records.slice(0, 1) if isinstance(records, pa.RecordBatch | pa.Table) else records[:1], "")
        batch = decoder.batches.build_record_batch([first])
    return batch.column(column)[0].as_py() if column in batch.schema.names else None
