"""A handler whose answer for a row depends on its neighbours is found before it is ready, and no other handler is."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, field_validator
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

import base.service as svc
from base.async_runner import AsyncRunner
from base.endpoint.dependencies import Dependencies
from base.endpoint.endpoint import Endpoint
from base.errors import Declaration, Reject
from base.schema import Schema
from base.worker.batch_check import Verdict, check_batching, is_checked
from base.worker.prediction.handler_call import BatchContext
from base.worker.prediction.predictor import Predictor
from base.worker.samples import sample_rows

RANDOM = np.random.default_rng(0)
ALONE = BatchContext({}, single_request=True)


class Row(Schema):
    x: pl.Float64
    n: pl.Float64 | None
    k: pl.Int64
    g: Annotated[str, pl.Enum(["a", "b"])]
    t: pl.String


class Two(Schema):
    """Of two rows that the author gave, every call is known."""

    x: pl.Float64 = Field(examples=[1.0, 3.0])


def check(endpoint: Endpoint[..., Any]) -> Verdict:
    runner = AsyncRunner()
    try:
        assert is_checked(endpoint)
        return check_batching(Predictor(endpoint, None, runner, Dependencies(runner)), None, ALONE)
    finally:
        runner.close()


def checked(handler: Callable[[pl.DataFrame], object], schema: type[Schema] = Row, **options: Any) -> Verdict:
    def predict(records_df: schema.DataFrame):  # type: ignore[name-defined]
        return handler(records_df)

    return check(svc.endpoint(path="/predict", **options)(predict))


class Differences:
    """Keeps the last row of the call before, or the sum of all."""

    def __init__(self) -> None:
        self.last = self.sum = 0.0

    def from_last(self, frame: pl.DataFrame) -> pl.Series:
        last, self.last = self.last, frame["x"][-1]
        return frame["x"] - last

    def running(self, frame: pl.DataFrame) -> pl.Series:
        self.sum += frame["x"].sum()
        return frame["x"] + self.sum


def fitted(frame: pl.DataFrame) -> np.ndarray:
    k = frame.select("k").to_numpy()
    return LinearRegression().fit(k, frame["x"]).predict(k)


def filled(frame: pl.DataFrame) -> pl.Series:
    """Fails on a lone null, which is answered beside others only."""
    return frame["n"].fill_null(frame["n"].mean())


DEPENDENT: dict[str, Callable[[pl.DataFrame], object]] = {
    "difference from the mean": lambda frame: frame["x"] - frame["x"].mean(),
    "a fit": fitted,
    "ranks": lambda frame: frame["x"].rank(),
    "dense ranks of categories": lambda frame: frame["g"].cast(pl.String).rank("dense"),
    "shift": lambda frame: frame["x"].shift(1, fill_value=0),
    "lead": lambda frame: frame["k"].shift(-1),
    "sorted": lambda frame: frame.sort("x"),
    "reversed": lambda frame: frame["k"].reverse(),
    "unique rows": lambda frame: frame.unique(maintain_order=True)["x"],
    "nulls filled by the mean": filled,
    "nulls filled forwards": lambda frame: frame["n"].forward_fill(),
    "means of groups": lambda frame: frame.select(pl.col("x").mean().over("g")),
    "counts of groups of two columns": lambda frame: frame.select(pl.len().over("g", "t")),
    "scaled by least and greatest": lambda frame: (frame["x"] - frame["x"].min()) / (frame["x"].max() - frame["x"].min()),
    "standard scores": lambda frame: (frame["x"] - frame["x"].mean()) / frame["x"].std(),
    "cumulative sums": lambda frame: frame["k"].cum_sum(),
    "number of values": lambda frame: [frame["g"].n_unique()] * frame.height,
    "number of rows": lambda frame: [frame.height] * frame.height,
    "row numbers": lambda frame: list(range(frame.height)),
    "exponential mean": lambda frame: frame["x"].ewm_mean(alpha=0.5),
    "one number for all": lambda frame: frame.select(pl.col("x").mean()),
    "greatest, deep in a record": lambda frame: [{"id": k, "of": {"all": [frame["x"].max()]}} for k in frame["k"]],
    "longest text": lambda frame: frame["t"].str.pad_start(int(frame["t"].str.len_chars().max())),
    "the last call": Differences().from_last,
    "all calls": Differences().running,
    "random": lambda frame: RANDOM.random(frame.height),
    "random by place": lambda frame: np.random.default_rng(1).random(frame.height),
}


@pytest.mark.parametrize("name", DEPENDENT)
def test_a_handler_whose_answers_depend_on_other_rows_is_found(name: str) -> None:
    """No column has an example. Either way out is in the message, and with one of them the handler is not called."""
    with pytest.raises(Declaration, match=r"batched=False.*batch_check=False"):
        checked(DEPENDENT[name])


def test_a_group_is_found_among_many_columns() -> None:
    """Of any two of the columns, some row differs from the first in one and not in the other."""
    wide = type(Schema)("Wide", (Schema,), {"__module__": __name__, "__annotations__": {f"c{at}": pl.String for at in range(40)}})
    for value, group in (("c0", "c39"), ("c39", "c0"), ("c38", "c39"), ("c31", "c32")):
        with pytest.raises(Declaration, match="depends on the rows beside it"):
            checked(lambda frame, value=value, group=group: frame.select(pl.col(value).max().over(group)), wide)


FLOWERS = RANDOM.normal(1, 1, (150, 3))
KINDS = (FLOWERS.sum(axis=1) > 3).astype(int)
HIDDEN = RANDOM.normal(size=(3, 512)).astype(np.float32)
OUT = RANDOM.normal(size=(512, 4)).astype(np.float32)
LINEAR, LOGISTIC = LinearRegression().fit(FLOWERS, KINDS), LogisticRegression().fit(FLOWERS, KINDS)
TREES, NEIGHBOURS = RandomForestClassifier(5, random_state=0).fit(FLOWERS, KINDS), KNeighborsClassifier().fit(FLOWERS, KINDS)


def matrix(frame: pl.DataFrame) -> np.ndarray:
    return frame.select(pl.col("x", "n").fill_null(0), pl.col("k").cast(pl.Float64)).to_numpy()


def network(frame: pl.DataFrame) -> np.ndarray:
    """Sums of 512 narrow floats differ with the number of rows that BLAS computes at once."""
    return np.tanh(matrix(frame).astype(np.float32) @ HIDDEN) @ OUT


def padded(frame: pl.DataFrame) -> list[list[float]]:
    """Pads texts to the longest of the call, as tokenisers do, and masks the padding."""
    longest = max(map(len, frame["t"]), default=0)
    codes = np.array([[*map(ord, text)] + [0] * (longest - len(text)) for text in frame["t"]], np.float32)
    vectors = np.sin(codes[..., None] * np.linspace(0.1, 3, 64, dtype=np.float32)) * (codes > 0)[..., None]
    return (vectors.sum(axis=1) / np.maximum((codes > 0).sum(axis=1), 1)[:, None]).tolist()


def restored(frame: pl.DataFrame) -> pl.Series:
    """Sorts, with ties, and puts the rows back."""
    return frame.with_row_index("at").sort("g", "k").with_columns(y=pl.col("x") * 2).sort("at")["y"]


def refusing(frame: pl.DataFrame) -> pl.Series:
    too_large = frame["x"] > 1.5
    if too_large.any():
        raise Reject(422, "too large", rows=too_large.arg_true())
    return frame["x"]


INDEPENDENT: dict[str, Callable[[pl.DataFrame], object]] = {
    "rows themselves": lambda frame: frame,
    "linear": lambda frame: LINEAR.predict(matrix(frame)),
    "logistic": lambda frame: LOGISTIC.predict_proba(matrix(frame)),
    "trees": lambda frame: TREES.predict(matrix(frame)),
    "neighbours": lambda frame: NEIGHBOURS.predict(matrix(frame)),
    "network of narrow floats": network,
    "padded texts": padded,
    "sorted and put back": restored,
    "refuses some rows": refusing,
    "fails on unknown texts": lambda frame: [{"text": 1}[text] for text in frame["t"]],
    "records with optional fields": lambda frame: [{"x": x, **({"note": "big", "l": [x]} if x > 1 else {})} for x in frame["x"]],
    "null and NaN": lambda frame: [None if x > 1.5 else np.nan if x > 1 else x for x in frame["x"]],
    "pandas": lambda frame: frame.to_pandas().assign(twice=lambda rows: rows["x"] * 2),
    "noise of one in a million": lambda frame: frame["x"] * (1 + 1e-6 * RANDOM.random(frame.height)),
    "dates": lambda frame: [dt.date(2024, 1, 1) + dt.timedelta(k) for k in frame["k"]],
}


@pytest.mark.parametrize("name", INDEPENDENT)
def test_a_handler_that_answers_each_row_by_itself_is_not(name: str) -> None:
    """Rows that it refuses are no evidence."""
    assert checked(INDEPENDENT[name]) == Verdict()


def test_the_message_has_the_row_and_both_answers() -> None:
    """3 - mean(3) = 0, and among the rows 3 and 1 it is 3 - 2 = 1. If calls are slow, 1 - mean(1) = 0 and 1 - 2 = -1 is found first."""
    with pytest.raises(Declaration) as refused:
        checked(DEPENDENT["difference from the mean"], Two)
    finding, _, ways_out = refused.value.detail.partition(". Add ")
    depends = "endpoint predict: its answer for a row depends on the rows beside it, which may be other clients' rows: for "
    assert finding in {
        f"{depends}{{'x': 3.0}}, 'prediction' is 0.0 alone and 1.0 in a call with 2 rows",
        f"{depends}{{'x': 1.0}}, 'prediction' is 0.0 alone and -1.0 in a call with 2 rows",
    }
    assert ways_out == (
        "batched=False to @endpoint if the handler works on each request as a whole, or batch_check=False if its answers differ by "
        "themselves, as random ones do"
    )
    with pytest.raises(Declaration, match=r"differs from call to call: for \{'x': 1.0\}, 'prediction' is 1.0 and then 0.0\. Add"):
        checked(Differences().from_last, Two)


def test_async_handlers_are_checked() -> None:
    async def predict(records_df: Two.DataFrame) -> pl.Series:
        return records_df["x"] - records_df["x"].mean()

    with pytest.raises(Declaration, match="depends on the rows beside it"):
        check(svc.endpoint(path="/predict")(predict))


def test_a_divided_batch_is_checked_in_its_parts() -> None:
    with pytest.raises(Declaration, match="depends on the rows beside it"):
        checked(DEPENDENT["number of rows"], batch_max_size=2)


def streams(records_df: Two.DataFrame) -> Iterator[float]:
    yield from records_df["x"]


def with_context(records_df: Two.DataFrame, context: svc.Context) -> pl.Series:
    return records_df["x"]


def plain(records_df: Two.DataFrame) -> pl.Series:
    return records_df["x"]


def without_schema(records_df: pl.DataFrame) -> pl.Series:
    return records_df["x"]


@pytest.mark.parametrize(
    ("handler", "options"),
    [
        (streams, {}),
        (with_context, {}),
        (without_schema, {}),
        (plain, {"batched": False}),
        (plain, {"group_by": ["x"]}),
        (plain, {"job": True}),
        (plain, {"warm_up": False}),
        (plain, {"batch_check": False}),
        (plain, {"batch_max_size": 1}),
    ],
)
def test_handlers_that_share_no_calls_or_must_not_be_called_are_not_checked(
    handler: Callable[..., object], options: dict[str, Any]
) -> None:
    assert not is_checked(svc.endpoint(path="/predict", **options)(handler))


def test_a_slow_handler_is_called_with_fewer_rows() -> None:
    """One row, which takes longer than the budget, and two rows at once; and that is enough."""
    calls = []

    def slow(frame: pl.DataFrame) -> pl.Series:
        calls.append(frame.height)
        time.sleep(1.1)
        return frame["x"]

    assert checked(slow) == Verdict()
    assert calls == [1, 2]
    with pytest.raises(Declaration, match=r"is 0\.0 alone and -?0\.\d+ in a call with 2 rows"):
        checked(lambda frame: slow(frame) - frame["x"].mean())


def test_a_handler_that_fails_with_several_rows_is_no_wrong_answer() -> None:
    """The front door computes the requests of such a batch one by one; the author is told."""
    verdict = checked(lambda frame: [frame["x"].item()], Two)
    assert verdict.is_warning
    assert verdict.doubt.startswith(
        "it fails in a call with 2 rows that it answers in other calls: the handler predict failed; see the log"
    )


class Picture(Schema):
    image: pl.Binary = Field(examples=[b"\x89PNG"])

    @field_validator("image")
    @classmethod
    def is_a_picture(cls, image: bytes) -> bytes:
        if image != b"\x89PNG":
            raise ValueError("no picture")
        return image


class Impossible(Schema):
    code: pl.String = Field(pattern="^[0-9]{30}$")


class Breaking(Schema):
    code: pl.String

    @field_validator("code")
    @classmethod
    def breaks(cls, code: str) -> str:
        raise RuntimeError("the table of codes is missing")


@pytest.mark.parametrize(
    ("schema", "doubt"),
    [
        (Picture, "it answers only one row that can be made"),
        (Impossible, "no valid row can be made"),
        (Breaking, "RuntimeError: the table of codes is missing"),
    ],
)
def test_too_little_to_judge_by_is_said_and_refuses_nothing(schema: type[Schema], doubt: str) -> None:
    assert doubt in checked(lambda frame: frame, schema).doubt


LEAVES = [
    *(
        pl.Int8(),
        pl.Int64(),
        pl.UInt16(),
        pl.Int128(),
        pl.Float32(),
        pl.Float64(),
        pl.Boolean(),
        pl.String(),
        pl.Categorical(),
        pl.Binary(),
    ),
    *(pl.Enum(["low", "high"]), pl.Date(), pl.Datetime("us", "UTC"), pl.Datetime("ms"), pl.Time(), pl.Duration("us"), pl.Decimal(12, 3)),
]
DTYPES = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.one_of(
        inner.map(pl.List),
        inner.map(lambda dtype: pl.Array(dtype, 2)),
        st.lists(inner, min_size=1, max_size=3).map(lambda fields: pl.Struct({f"f{at}": dtype for at, dtype in enumerate(fields)})),
    ),
    max_leaves=4,
)


def schema_of(dtypes: list[tuple[pl.DataType, bool]]) -> type[Schema]:
    given = [(Annotated[Any, dtype], optional) for dtype, optional in dtypes]
    annotations = {f"c{at}": annotation | None if optional else annotation for at, (annotation, optional) in enumerate(given)}
    return type(Schema)("Generated", (Schema,), {"__module__": __name__, "__annotations__": annotations})


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(DTYPES, st.booleans()), min_size=1, max_size=5))
def test_of_any_schema_copied_rows_are_no_dependence_and_reversed_rows_are_one(dtypes: list[tuple[pl.DataType, bool]]) -> None:
    schema = schema_of(dtypes)
    rows = sample_rows(schema)
    frame = schema.frame(schema.batch_of_rows(rows))
    assert frame.n_unique() == frame.height > 1
    assert schema.check(frame) == []
    assert checked(lambda frame: frame, schema) == Verdict()
    with pytest.raises(Declaration, match="depends on the rows beside it"):
        checked(lambda frame: frame[list(reversed(range(frame.height)))], schema)
