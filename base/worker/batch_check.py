"""The check that a handler's answer for a row is the same whatever rows it is called with, made before a worker is ready.

A batch has rows of several clients. A handler that subtracts the mean of its rows, sorts them or is fitted on them would mix these rows
into one another's answers, with status 200. So it is called with rows alone, together, in another order, with one of them twice, and once
more at the end, and its answers are compared. A row that the handler refuses is no evidence. A slow handler gets fewer rows and calls.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from base.artifacts.cache.cache import Lease
from base.endpoint.endpoint import Endpoint
from base.errors import BadResult, Declaration, PexdockError
from base.schema.constraints import shorten_value
from base.worker.answers import AnswerComparison
from base.worker.prediction.handler_call import BatchContext
from base.worker.prediction.predictor import Predictor
from base.worker.samples import sample_rows

_BUDGET_S = 1.0
"""Time after which no further call is made. The time for one row decides how many rows are used."""
_SLOW_S = 5.0
"""A handler that takes longer for one row is not checked."""
_FEWEST_ROWS = 2

_WAYS_OUT = (
    "Add batched=False to @endpoint if the handler works on each request as a whole, or batch_check=False if its answers differ by "
    "themselves, as random ones do"
)
_GIVE_EXAMPLES = "give the columns of its schema examples"


class Verdict(NamedTuple):
    """The outcome of a check that found no difference.

    Attributes:
        doubt: Why there was too little to judge by; empty if there was enough.
        is_warning: The author should know of it.
    """

    doubt: str = ""
    is_warning: bool = False


def is_checked(endpoint: Endpoint[..., Any]) -> bool:
    """Returns True if rows of several requests may share a call of the handler, and it may be called without a client."""
    shares = endpoint.batched and endpoint.batch.max_rows > 1 and not endpoint.unbatched and not endpoint.job
    return shares and endpoint.batch_check and endpoint.warm_up and endpoint.input_schema is not None


def check_batching(predictor: Predictor, lease: Lease | None, context: BatchContext) -> Verdict:
    """Compares the answers that a handler gives to rows alone and beside others.

    Args:
        predictor: The predictor of an endpoint for which `is_checked` holds.
        lease: Its model.
        context: The parameters.

    Raises:
        Declaration: The answers differ.
    """
    schema = predictor.endpoint.input_schema
    assert schema is not None
    try:
        rows = sample_rows(schema)
    except Exception as exc:  # noqa: BLE001 - a validator of the author, which may raise anything
        return Verdict(f"no row can be made from its schema: {type(exc).__name__}: {exc}")
    if not rows:
        return Verdict(f"no valid row can be made from its schema; {_GIVE_EXAMPLES}")
    return _BatchCheck(predictor, lease, context, rows).run()


class _BatchCheck:
    """The calls of one handler.

    Args:
        predictor: The predictor of the endpoint.
        lease: Its model.
        context: The parameters.
        rows: Valid rows, which are all different.
    """

    def __init__(self, predictor: Predictor, lease: Lease | None, context: BatchContext, rows: Sequence[Mapping[str, object]]) -> None:
        self._predictor = predictor
        self._lease, self._context = lease, context
        self._rows = rows
        self._comparison = AnswerComparison()
        self._answers: dict[int, tuple[Mapping[str, Any], int]] = {}  # of each row the first answer, and the size of that call
        self._started_s = time.monotonic()

    def run(self) -> Verdict:
        """Makes the calls; see `check_batching`."""
        row_s = self._time_one_row()
        if row_s > _SLOW_S:
            return Verdict(f"it takes {row_s:.1f} s for one row")
        rows = min(len(self._rows), max(_FEWEST_ROWS, int(_BUDGET_S / 4 / row_s)))
        for number in range(1, rows):
            if self._spent_s() < _BUDGET_S / 2:
                self._call([number])
        numbers = list(reversed(range(rows)))  # backwards, since an answer that depends on the rows before it has none for the first
        if self._call(numbers) is not None:
            numbers = sorted(self._answers, reverse=True)  # without those that it refuses
        if not numbers:
            return Verdict(f"it refuses all rows that can be made; {_GIVE_EXAMPLES}")
        for call in (numbers, [*reversed(numbers), numbers[-1]], numbers[::2], numbers[1::2] or numbers, numbers[-1:]):
            if self._spent_s() > _BUDGET_S:
                break
            if (error := self._call(call)) is not None:
                return self._on_failure(call, error)
        return Verdict() if len(numbers) > 1 else Verdict(f"it answers only one row that can be made; {_GIVE_EXAMPLES}")

    def _spent_s(self) -> float:
        return time.monotonic() - self._started_s

    def _time_one_row(self) -> float:
        """Calls the handler with one row, and returns the time. A first call may import or load something, and is not the measure."""
        self._call([0])
        first_s = self._spent_s()
        if first_s > _BUDGET_S:
            return first_s
        self._call([0])
        return self._spent_s() - first_s

    def _call(self, numbers: Sequence[int], *, quiet: bool = True) -> PexdockError | None:
        """Calls the handler with these rows, and compares its answers with earlier ones. Returns the error of the call if it fails.

        Raises:
            Declaration: An answer differs.
        """
        rows, size = [self._rows[number] for number in numbers], len(numbers)
        try:
            answers = self._predictor.call_with_rows(self._lease, rows, replace(self._context, quiet=quiet)).to_dicts()
        except PexdockError as exc:
            return exc
        self._comparison.learn(answers)
        for number, answer in zip(numbers, answers, strict=True):
            known, known_size = self._answers.setdefault(number, (answer, size))
            column = self._comparison.differing_column(known, answer)
            if column is not None:
                first, second = (shorten_value(each.get(column)) for each in (known, answer))
                place = f"for {shorten_value(self._rows[number])}, {column!r} is {first}"
                if size == known_size == 1:
                    raise self._refusal(f"its answer for a row differs from call to call: {place} and then {second}")
                places = f"{place} {_beside(known_size)} and {second} {_beside(size)}"
                raise self._refusal(f"its answer for a row depends on the rows beside it, which may be other clients' rows: {places}")
        return None

    def _on_failure(self, numbers: Sequence[int], error: PexdockError) -> Verdict:
        """Handles the failure of a call with rows all of which were answered before."""
        if isinstance(error, BadResult):
            raise self._refusal(f"it answers rows alone, but not together: {error.detail}")
        error = self._call(numbers, quiet=False) or error  # the log gets its traceback
        return Verdict(f"it fails {_beside(len(numbers))} that it answers in other calls: {error.detail}", is_warning=True)

    def _refusal(self, finding: str) -> Declaration:
        return Declaration(f"endpoint {self._predictor.endpoint.name}: {finding}. {_WAYS_OUT}")


def _beside(rows: int) -> str:
    return "alone" if rows == 1 else f"in a call with {rows} rows"
