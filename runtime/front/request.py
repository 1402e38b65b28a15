"""One request on its way through the front door, from its rows to its answer."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING

import msgspec

from base.errors import PexdockError
from runtime.front.answer import Answer
from runtime.front.problems import problem
from runtime.front.replies import Form, Replies
from runtime.front.rows import Rows

if TYPE_CHECKING:
    from runtime.front.dispatch import Endpoint


class Request:
    """Rows for one endpoint and one set of parameters, and whom to tell. It is answered exactly once.

    Args:
        answer: called with the finished answer, in the loop's thread.
    """

    __slots__ = ("_answer", "endpoint", "form", "group", "id", "parameters", "row_count", "rows")

    def __init__(
        self, endpoint: Endpoint, parameters: Mapping[str, str], rows: Rows, form: Form, request_id: str, answer: Callable[[Answer], None]
    ) -> None:
        self.endpoint = endpoint
        self.parameters = msgspec.json.encode(parameters, order="sorted")
        self.rows = rows
        self.row_count = rows.count
        self.form = form
        self.id = request_id
        self.group: Hashable = (self.parameters, rows.shape)
        self._answer: Callable[[Answer], None] | None = answer

    @property
    def answered(self) -> bool:
        """Whether nobody waits any more: answered, timed out, or its client gone."""
        return self._answer is None

    def succeed(self, replies: Replies, start: int) -> None:
        """Answers with this request's rows of a batch's reply."""
        if self._answer is not None:
            body = replies.body(self.form, self.id, start, self.row_count)
            headers = [(b"content-type", self.form.value.encode()), (b"x-request-id", self.id.encode())]
            self._finish(Answer(200, headers, body))

    def fail(self, error: PexdockError) -> None:
        """Answers with a problem document."""
        if self._answer is not None:
            self._finish(problem(error, self.id))

    def abandon(self) -> None:
        """Its client is gone: nothing will be answered."""
        self._answer = None

    def _finish(self, answer: Answer) -> None:
        tell, self._answer = self._answer, None
        self.endpoint.deadlines.forget(self)
        if tell is not None:
            tell(answer)
