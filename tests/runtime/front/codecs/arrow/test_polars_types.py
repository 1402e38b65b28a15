"""Arrow types that Polars is given: it converts some of them for seconds, with Python's lock, so that no other thread runs."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from base.errors import Misfit
from base.schema.wire import Column, columns_to_arrow
from reader_bodies import ARROW, arrow
from runtime.front.codecs.arrow import tables
from runtime.front.codecs.decoder import RowDecoder, decode_body

INDICES = pa.array([1, None, 0, 2], pa.uint32())


def categories(kind: pa.DataType) -> pa.Array:
    """Returns `b`, null, `a`, null: the third category is null."""
    return pa.DictionaryArray.from_arrays(INDICES, pa.array(["a", "b", None]).cast(kind))


TEXTS = ["b", None, "a", None]
PAIRS = pa.array([0, 2, 4], pa.int32())
FORMS: dict[str, tuple[Callable[[pa.Array], pa.Array], list[Any]]] = {
    "column": (lambda inner: inner, TEXTS),
    "slice": (lambda inner: inner.slice(2), ["a", None]),
    "list": (lambda inner: pa.ListArray.from_arrays(PAIRS, inner), [["b", None], ["a", None]]),
    "large list": (lambda inner: pa.LargeListArray.from_arrays(PAIRS.cast(pa.int64()), inner), [["b", None], ["a", None]]),
    "array": (lambda inner: pa.FixedSizeListArray.from_arrays(inner, 2, mask=pa.array([True, False])), [None, ["a", None]]),
    "struct": (
        lambda inner: pa.StructArray.from_arrays([inner], ["x"], mask=pa.array([True, False, False, False])),
        [None, {"x": None}, {"x": "a"}, {"x": None}],
    ),
    "map": (
        lambda inner: pa.MapArray.from_arrays(PAIRS, pa.array(["k", "l", "m", "n"]), inner),
        [[{"key": "k", "value": "b"}, {"key": "l", "value": None}], [{"key": "m", "value": "a"}, {"key": "n", "value": None}]],
    ),
    "dictionary": (lambda inner: pa.DictionaryArray.from_arrays(pa.array([3, 0, None], pa.int8()), inner), [None, "b", None]),
    "list in struct": (
        lambda inner: pa.StructArray.from_arrays([pa.ListArray.from_arrays(PAIRS, inner)], ["x"]),
        [{"x": ["b", None]}, {"x": ["a", None]}],
    ),
}
TEXT_KINDS = [pa.string(), pa.large_string(), pa.string_view()]


@pytest.fixture
def given_types(monkeypatch: pytest.MonkeyPatch) -> list[pa.DataType]:
    """Notes the types of the columns that Polars is given."""
    found: list[pa.DataType] = []
    convert = pl.from_arrow

    def note(column: Any) -> Any:
        found.append(column.type)
        return convert(column)

    monkeypatch.setattr(tables.pl, "from_arrow", note)
    return found


@pytest.mark.parametrize("kind", TEXT_KINDS, ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_arrow_decodes_dictionaries_wherever_they_are(form: str, kind: pa.DataType, given_types: list[pa.DataType]) -> None:
    """Polars would make each a category, which takes it more than a second for a million of them."""
    if form == "dictionary" and kind == pa.string_view():
        pytest.skip("Arrow cannot decode it, so it is refused")
    build, values = FORMS[form]
    column = build(categories(kind))
    assert tables.infer_frame(pa.table({"v": column}))["v"].to_list() == values
    assert "dictionary" not in "".join(map(str, given_types))


@pytest.mark.parametrize(
    "column",
    [
        pa.array([b"ab", None], pa.binary(2)),
        pa.array([uuid.UUID(int=7), None], pa.uuid()),
        pa.array([b"ab", None]).dictionary_encode(),
        pa.array([b"ab", None], pa.binary(2)).dictionary_encode(),
        pa.array(["ab", None]),
        pa.array(["ab", None], pa.large_string()),
        pa.array(["ab", None]).dictionary_encode(),
    ],
    ids=lambda column: str(column.type),
)
def test_arrow_makes_the_views_that_polars_keeps(column: pa.Array, given_types: list[pa.DataType]) -> None:
    """Polars would look at each value to make them."""
    storage = column.storage if isinstance(column, pa.ExtensionArray) else column
    assert tables.infer_frame(pa.table({"v": column}))["v"].to_list() == storage.to_pylist()
    assert given_types[-1] in (pa.string_view(), pa.binary_view())


@pytest.mark.parametrize("kind", TEXT_KINDS, ids=str)
def test_categories_of_a_schema_are_checked_as_before(kind: pa.DataType) -> None:
    """The order of the declared categories is that of the schema; which row has an unknown one is named."""
    body = arrow(*pa.table({"v": categories(kind)}).to_batches())
    for dtype in (pl.Enum(["b", "z", "a"]), pl.Categorical(), pl.String()):
        decoder = RowDecoder(columns_to_arrow({"v": Column(dtype, True)}))
        rows = decode_body(decoder, ARROW, body)
        assert pl.DataFrame(decoder.batches.build_record_batch([rows]))["v"].to_list() == TEXTS
    with pytest.raises(Misfit, match=r"row 2, column 'v': .*'a'"):
        decode_body(RowDecoder(columns_to_arrow({"v": Column(pl.Enum(["b", "z"]), True)})), ARROW, body)
    with pytest.raises(Misfit, match="row 0, column 'v': expected an integer"):
        decode_body(RowDecoder(columns_to_arrow({"v": Column(pl.Int64(), True)})), ARROW, body)
