"""Which release of a model gets a request, where its model has several, or a client asks for one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import pyarrow as pa

from base.errors import NotFound, PexdockError
from base.ipc.front_door_control import SplitSpec
from base.ipc.numeric_frames import NumericBatch
from runtime.front.codecs.decoder import RowDecoder
from runtime.front.codecs.rows import Rows
from runtime.front.memory.body_buffer import BodyBuffer
from runtime.front.requests.endpoint import ServedEndpoint, ServedRelease
from runtime.front.requests.hints import NO_HINTS
from runtime.front.requests.request_head import Mirror, ReplyObserver, RequestHead, Selection, Selector
from runtime.front.requests.target import Target
from runtime.front.routing.mirroring import RequestMirror
from runtime.front.routing.path_trie import PathTrie
from runtime.front.routing.weighted_choice import GOLDEN, SILVER, LowDiscrepancySequence, choose_weighted, rank_by_key

STABLE = "stable"
"""What serves is called so, whatever else is."""

_SHOWN_MAX_CHARS = 64


class TrafficSplit:
    """The releases of one model that a routing table names, and how requests are shared among them.

    Args:
        sharing: None where the table says nothing of it: then the releases share evenly.
        releases: one or more.
        copying: to releases that get copies, by id.

    Attributes:
        stand_in: answers while none of those that share the requests can.
    """

    def __init__(
        self, sharing: SplitSpec | None, releases: Sequence[ServedRelease], copying: Mapping[str, RequestMirror] | None = None
    ) -> None:
        sharing = sharing or SplitSpec({each.id: 1 for each in releases})
        self._routers = {each.id: _router(each) for each in releases}
        self.fallback = next((each for each in releases if each.id == sharing.fallback), None)
        self._releases = {each.id: each for each in releases if not sharing.hides(each.id)}
        self._labels = sharing.labels
        # By id, so that front doors with other orders of the same table agree.
        self.weights = {each: sharing.weights[each] for each in sorted(self._releases) if sharing.weights.get(each, 0) > 0}
        self.affinity, _, self.affinity_name = sharing.by.partition(":")
        self.rotation, self._copied = LowDiscrepancySequence(GOLDEN), LowDiscrepancySequence(SILVER)
        self._copied_part = 0.0 if sharing.mirror is None else sharing.mirror.percent / 100
        self.mirror = None if sharing.mirror is None else (copying or {}).get(sharing.mirror.release_id)

    @property
    def primary(self) -> ServedRelease:
        """The release that serves most, and speaks for the model where one has to."""
        return self._releases[max(self.weights or self._releases, key=lambda each: self.weights.get(each, 0))]

    @property
    def serving(self) -> list[ServedRelease]:
        """Those that share the requests, the heaviest first."""
        return [each for each in reversed(self.by_weight()) if each.id in self.weights]

    @property
    def up(self) -> bool:
        """Whether any of those that share the requests can answer, or what stands in for them."""
        return any(self._releases[each].up for each in self.weights) or (self.fallback is not None and self.fallback.up)

    def by_weight(self) -> list[ServedRelease]:
        """All releases that have a part of their own, the heaviest last."""
        return sorted(self._releases.values(), key=lambda each: (each is self.primary, self.weights.get(each.id, 0)))

    def should_mirror(self) -> bool:
        """Whether the next request is to be copied; asked once for each."""
        return self.mirror is not None and self._copied.next_point() < self._copied_part

    def match_targets(self, raw_path: bytes) -> dict[str, SplitTarget]:
        """Where a path leads in each release that has it, by id.

        Raises:
            Misfit, TooLarge: as `RouteTable.route`.
        """
        found = {}
        for release_id, router in self._routers.items():
            match = router.match(raw_path)
            if match is not None:
                found[release_id] = SplitTarget(match.target, match.parameters, raw_path)
        return found

    def release_by_name(self, name: str) -> ServedRelease:
        """The release that is asked for by version or label.

        Raises:
            NotFound: none that is routed has this name.
        """
        found = self._releases.get(self._labels[name]) if name in self._labels else None
        if name not in self._labels:
            versions = [each for each in reversed(self.by_weight()) if each.spec.version == name]
            found = versions[0] if versions else self.primary if name == STABLE else None
        if found is None:
            shown = name[:_SHOWN_MAX_CHARS]
            raise NotFound(f"{self.primary.spec.model} has no release {shown!r} that takes requests; there {self._what_there_is()}")
        return found

    def _what_there_is(self) -> str:
        versions = sorted({each.spec.version for each in self._releases.values()})
        labels = sorted({STABLE, *(label for label, each in self._labels.items() if each in self._releases)})
        return f"{'are' if len(versions) > 1 else 'is'} {', '.join(versions)}; labels: {', '.join(labels)}"


class SplitTarget(Target):
    """Where a path leads in one of several releases.

    Attributes:
        split_route: Chooses among all of them; None in all but the first.
    """

    __slots__ = ("split_route",)

    def __init__(self, endpoint: ServedEndpoint, parameters: Mapping[str, str], path: bytes) -> None:
        super().__init__(endpoint, parameters, path)
        self.split_route: SplitRoute | None = None


def split_route_of(target: Target) -> SplitRoute | None:
    """Returns what chooses the release for requests that lead to a target; None where the target is final."""
    return target.split_route if isinstance(target, SplitTarget) else None


class SplitRoute(Mirror):
    """A path that leads to several releases of a model, or to one and copies to another. Made once for many requests.

    Args:
        targets: where it leads in each of them, by id; not empty.
    """

    def __init__(self, shares: TrafficSplit, targets: Mapping[str, SplitTarget]) -> None:
        self.split = shares
        self.targets = targets
        self.weights = {each: weight for each, weight in shares.weights.items() if each in targets}
        self.fallback_target = None if shares.fallback is None else targets.get(shares.fallback.id)
        first = targets.get(shares.primary.id) or targets[max(targets, key=lambda each: shares.weights.get(each, 0))]
        self.primary_target = first
        copied_to = None if shares.mirror is None else targets.get(shares.mirror.release.id)
        self.mirror_target = copied_to if copied_to is not None and not copied_to.endpoint.spec.unbatched else None
        self._header = shares.affinity_name.lower().encode("latin-1", "replace") if shares.affinity == "header" else b""
        self._ranked: list[str] | None = None
        if shares.affinity == "parameter":
            value = msgspec.json.decode(first.parameters, type=dict[str, str]).get(shares.affinity_name)
            self._ranked = None if value is None else rank_by_key(self.weights, value)

    @property
    def always_batched(self) -> bool:
        """Whether requests share batches in all of them, and nothing else need be known of a path."""
        return bool(self.weights) and all(target.admitted and not target.endpoint.spec.unbatched for target in self.targets.values())

    @property
    def affinity_column(self) -> str:
        """Whose value in row 0 decides; empty where that is not what does."""
        return self.split.affinity_name if self.split.affinity == "column" and not self.primary_target.endpoint.spec.raw else ""

    def make_selector(self, headers: Mapping[bytes, bytes], content_type: str, accept: str) -> ReleaseSelector:
        """What a head decides.

        Raises:
            NotFound: releases that have this path get only copies, and requests that ask for them.
        """
        if not self.weights:
            raise NotFound("no release that serves has an endpoint at this path")
        header = headers.get(self._header) if self._header else None
        return ReleaseSelector(self, header, content_type, accept)

    def should_copy(self) -> bool:
        """Returns whether the next request is to be copied; called once for each request."""
        return self.split.should_mirror()

    def copy(self, head: RequestHead, rows: Rows, body: bytes | BodyBuffer, request_id: str) -> ReplyObserver | None:
        """Copies a request, see `RequestMirror.copy`."""
        assert self.split.mirror is not None
        assert self.mirror_target is not None
        return self.split.mirror.copy(head, self.mirror_target, rows, body, request_id)

    def ranking_for(self, header: bytes | None) -> Sequence[str] | None:
        """The ids of releases, of which the first that can answers; None where turns decide, or a column."""
        return self._ranked if header is None else rank_by_key(self.weights, header.decode("latin-1"))


class ReleaseSelector(Selector):
    """What a head says of who answers it. Requests with equal heads share one.

    Args:
        header: the value of the one that keeps a client with a release; None where there is none.

    Attributes:
        wishes: of the head.
    """

    __slots__ = ("_accept", "_asked", "_content_type", "_order", "affinity_header", "fork", "wishes")

    def __init__(self, fork: SplitRoute, header: bytes | None, content_type: str, accept: str) -> None:
        self.fork = fork
        self.affinity_header = header
        self.wishes = NO_HINTS
        self._order = fork.ranking_for(header)
        self._content_type, self._accept = content_type, accept
        self._asked: dict[str, RequestHead] = {}

    def select_release(self, body: bytes | BodyBuffer) -> Selection:
        """Chooses among those that can answer; where none can, what stands in for them, or else among all."""
        fork, order = self.fork, self._order
        rows = self._rows(body) if fork.affinity_column else None
        if rows is not None:
            order = _order(fork, rows, fork.affinity_column)
        able = [each for each in fork.weights if fork.targets[each].endpoint.release.takes_requests]
        if not able and fork.fallback_target is not None and fork.fallback_target.endpoint.release.takes_requests:
            return Selection(self._asked_of(fork.fallback_target.endpoint.release.id), None)
        able = able or list(fork.weights)
        if order is not None:
            chosen = next(each for each in order if each in able)
        elif len(able) == 1:
            chosen = able[0]
        else:
            chosen = able[choose_weighted([fork.weights[each] for each in able], fork.split.rotation.next_point())]
        asked = self._asked_of(chosen)
        same = rows is not None and asked.target.endpoint.decodes_like(fork.primary_target.endpoint)
        return Selection(asked, rows if same else None)

    def _asked_of(self, release_id: str) -> RequestHead:
        found = self._asked.get(release_id)
        if found is None:
            found = self._asked[release_id] = RequestHead(self.fork.targets[release_id], self._content_type, self._accept)
            found.apply_hints(self.wishes)
            copied_to = self.fork.mirror_target
            if copied_to is not None and found.target is not copied_to and not found.target.endpoint.spec.unbatched:
                found.mirror = self.fork
        return found

    def _rows(self, body: bytes | BodyBuffer) -> Rows | None:
        """As the release reads them that speaks for the model; None where it cannot: then turns decide, and who is chosen says why not."""
        try:
            return RequestHead(self.fork.primary_target, self._content_type, self._accept).decode_body(body)
        except PexdockError:
            return None


def _order(fork: SplitRoute, rows: Rows, column: str) -> list[str] | None:
    value = _first(fork.primary_target.endpoint.decoder, rows, column)
    return None if value is None else rank_by_key(fork.weights, str(value))


def _first(decoder: RowDecoder, rows: Rows, column: str) -> object:
    """The value of a column in row 0, the same whatever the body's media type; None where there is none."""
    if not rows.count:
        return None
    records = rows.records
    if isinstance(records, NumericBatch):
        batch = records.to_record_batch()
    else:
        batch = records if isinstance(records, pa.RecordBatch) else decoder.batches.build_record_batch([Rows(records[:1], "")])
    return batch.column(column)[0].as_py() if column in batch.schema.names else None


def _router(release: ServedRelease) -> PathTrie[ServedEndpoint]:
    router: PathTrie[ServedEndpoint] = PathTrie()
    for endpoint in release.endpoints:
        router.add_path(endpoint.spec.path, endpoint)
    return router
