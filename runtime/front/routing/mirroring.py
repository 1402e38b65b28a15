"""Requests that are also sent to another release, whose answers are compared and dropped. Everything here runs in the loop's thread.

The client of a copied request notices nothing: its copy begins after it, waits in a queue of its own for a worker of its own, and is
bounded in number, rows and memory, beyond which copies are skipped.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import pyarrow as pa

from base.errors import AuthorError, PexdockError, TryLater
from runtime.front.codecs.decoder import body_reader
from runtime.front.codecs.encoder import ReplyEncoder
from runtime.front.codecs.rows import Rows
from runtime.front.memory.body_buffer import BodyBuffer
from runtime.front.requests.endpoint import ServedRelease
from runtime.front.requests.request import InferenceRequest
from runtime.front.requests.request_head import ReplyObserver, RequestHead
from runtime.front.requests.response import HttpResponse
from runtime.front.requests.target import Target
from runtime.front.routing.response_diff import ResponseDiff, compare_responses
from runtime.front.scheduling.admission import check_available, check_parameters, submit_copy
from runtime.front.telemetry.metrics import now_s
from runtime.front.telemetry.mirror_stats import MirrorStats
from runtime.http.problems import status_of

COPIES_MAX = 128
COPIED_ROWS_MAX = 16_384
"""Copies of one release that are on their way. More would only wait in vain behind them, with their rows and answers in memory."""


class RequestMirror:
    """The copies that one release gets.

    Args:
        release: that gets them.
        comparison: is told of each.
    """

    def __init__(self, release: ServedRelease, comparison: MirrorStats) -> None:
        self.release = release
        self.stats = comparison
        self._number = self._rows = 0
        self._checking: set[asyncio.Task[None]] = set()

    def copy(self, head: RequestHead, to: Target, rows: Rows, body: bytes | BodyBuffer, request_id: str) -> ReplyObserver | None:
        """Has a copy of a request sent when this turn of the loop is over, if there is room for it.

        A request that has memory of its own is not copied: that can be given to one worker only, and is a megabyte or more.

        Returns:
            What must observe how the request ends; None where it is not copied.
        """
        if isinstance(body, BodyBuffer) or not self._has_room(rows.count):
            self.stats.record_skipped()
            return None
        self._number += 1
        self._rows += rows.count
        pair = _Pair(self, rows.count, now_s())
        asyncio.get_running_loop().call_soon(self._send, pair, head, to, rows, body, request_id)
        return _Original(pair)

    def _has_room(self, rows: int) -> bool:
        few = self._number < COPIES_MAX and (not self._rows or self._rows + rows <= COPIED_ROWS_MAX)
        return few and self.release.up

    def done(self, rows: int) -> None:
        """Both answers are there."""
        self._number -= 1
        self._rows -= rows

    def _send(self, pair: _Pair, asked: RequestHead, to: Target, rows: Rows, body: bytes, request_id: str) -> None:
        try:
            if not to.endpoint.decodes_like(asked.target.endpoint):
                rows = body_reader(to.endpoint.decoder, asked.content_type)(body)
            check_available(to.endpoint)
            copied = RequestHead(to, asked.content_type, "")
            copy = _Copy(pair, copied, rows, request_id)
        except PexdockError as exc:
            pair.copied(_failed(exc, pair, blamed=False))
            return
        if to.admitted:
            submit_copy(copy)
        else:
            task = asyncio.get_running_loop().create_task(self._checked(copy, copied))
            self._checking.add(task)
            task.add_done_callback(self._checking.discard)

    @staticmethod
    async def _checked(copy: _Copy, asked: RequestHead) -> None:
        """Submits it once a worker has said that the path's parameters are such as it takes."""
        try:
            await check_parameters(asked, copied=True)
        except PexdockError as exc:
            copy.fail(exc)
        else:
            submit_copy(copy)


class _Ended(NamedTuple):
    """How one of two requests ended.

    Attributes:
        status: of the answer; 0 where there is none to compare.
        values: a copy of them; None where the status is not 200.
        ms: since the request was whole.
        blamed: its release failed at it.
    """

    status: int
    values: pa.RecordBatch | None
    ms: float
    blamed: bool = False


def _failed(error: PexdockError, pair: _Pair, *, blamed: bool) -> _Ended:
    blamed = blamed or isinstance(error, AuthorError)
    status = 0 if isinstance(error, TryLater) else status_of(error)
    return _Ended(status, None, pair.ms(), blamed)


class _Pair:
    """A request and its copy. They end in any order."""

    def __init__(self, copying: RequestMirror, rows: int, began_s: float) -> None:
        self._copying = copying
        self._rows = rows
        self.began_s = began_s
        self._own: _Ended | None = None
        self._copy: _Ended | None = None

    def ms(self) -> float:
        """Since the request was whole."""
        return (now_s() - self.began_s) * 1000

    def answered(self, ended: _Ended) -> None:
        """The client's own."""
        self._own = ended
        self._settle()

    def copied(self, ended: _Ended) -> None:
        """The copy's."""
        self._copy = ended
        self._settle()

    def _settle(self) -> None:
        own, copy = self._own, self._copy
        if own is None or copy is None:
            return
        self._copying.done(self._rows)
        if copy.blamed and own.status and not own.blamed:
            self._copying.stats.record_failed()
        elif not copy.status and not copy.blamed:
            self._copying.stats.record_skipped()
        elif own.status:
            self._compare(own, copy)

    def _compare(self, own: _Ended, copy: _Ended) -> None:
        if own.values is None or copy.values is None:
            diff = ResponseDiff(own.status == copy.status, 0.0)
        else:
            diff = compare_responses(own.values, copy.values)
        self._copying.stats.record_comparison(equal=diff.equal, deviation=diff.deviation, primary_ms=own.ms, mirror_ms=copy.ms)


class _Original(ReplyObserver):
    """Observes how a copied request ends, after its client has the answer."""

    __slots__ = ("_pair",)

    def __init__(self, pair: _Pair) -> None:
        self._pair = pair

    def on_succeeded(self, replies: ReplyEncoder, start: int, row_count: int) -> None:
        self._pair.answered(_Ended(200, replies.copy_rows(start, row_count), self._pair.ms()))

    def on_failed(self, error: PexdockError, *, blamed: bool) -> None:
        self._pair.answered(_failed(error, self._pair, blamed=blamed))

    def on_abandoned(self) -> None:
        self._pair.answered(_Ended(0, None, self._pair.ms()))


class _Copy(InferenceRequest):
    """A request that nobody waits for. It counts neither as a request nor for how requests to its release end."""

    __slots__ = ("_pair",)

    def __init__(self, pair: _Pair, asked: RequestHead, rows: Rows, request_id: str) -> None:
        super().__init__(asked, rows, request_id, _dropped)
        self._pair = pair

    @property
    def pinned(self) -> bool:
        return True

    @property
    def may_retry(self) -> bool:
        return False

    def succeed(self, replies: ReplyEncoder, start: int) -> None:
        if not self.answered:
            self._finish_copy(_Ended(200, replies.copy_rows(start, self.row_count), self._pair.ms()))

    def fail(self, error: PexdockError, *, blamed: bool = False) -> None:
        if not self.answered:
            self._finish_copy(_failed(error, self._pair, blamed=blamed))

    def _finish_copy(self, ended: _Ended) -> None:
        self.answered, self._respond = True, None
        self.endpoint.deadlines.forget(self)
        self._pair.copied(ended)


def _dropped(_: HttpResponse) -> None:
    """Nobody gets it."""
