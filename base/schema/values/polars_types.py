"""Finds the Arrow type that Polars can hold for each type that only means the same values in another form.

A time zone says how to show an instant, not which instant it is: Polars knows the names of zones, while Arrow also has offsets.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import polars as pl
import pyarrow as pa

_DECIMAL_DIGITS_MAX = 38


def polars_type(kind: pa.DataType) -> pa.DataType:
    """Returns the type itself if Polars takes its values as they are and quickly; else a type to cast to, which may need another cast.

    A cast fails if a value does not fit.

    Types may nest as deep as Python functions may call.

    Raises:
        TypeError: Nobody but its writer knows what the values mean.
    """
    match kind:
        case pa.TimestampType():
            return pa.timestamp("ms" if kind.unit == "s" else kind.unit, None if kind.tz is None else _known_zone(kind.tz))
        case pa.DurationType():
            return pa.duration("ms") if kind.unit == "s" else kind
        case pa.Decimal256Type() | pa.Decimal128Type() | pa.Decimal64Type() | pa.Decimal32Type():
            is_plain = kind.precision <= _DECIMAL_DIGITS_MAX and kind.scale >= 0 and not isinstance(kind, pa.Decimal256Type)
            return kind if is_plain else pa.decimal128(_DECIMAL_DIGITS_MAX, max(0, kind.scale))
        case pa.DictionaryType():
            # Polars would make them categories, holding Python's lock for more than a second for a million. Arrow takes no views.
            text = _TEXTS.get(kind.value_type)
            return kind.value_type if text is None else pa.dictionary(kind.index_type, text)  # type: ignore[call-overload,no-any-return]
        case pa.BaseExtensionType():
            if kind.extension_name == "arrow.opaque":
                raise TypeError("an opaque type")
            return pa.bool_() if kind.extension_name == "arrow.bool8" else polars_type(kind.storage_type)
        case pa.MapType():
            return pa.list_(pa.struct([_field(kind.key_field).with_name("key"), _field(kind.item_field).with_name("value")]))
        case pa.ListType():
            return pa.list_(_field(kind.value_field))
        case pa.LargeListType():
            return pa.large_list(_field(kind.value_field))
        case pa.FixedSizeListType():
            return pa.list_(_field(kind.value_field), kind.list_size)
        case pa.StructType():
            return pa.struct([_field(field) for field in kind])
        case pa.Time32Type():
            return pa.time64("ns")
        case pa.FixedSizeBinaryType():
            return pa.large_binary()
    if kind == pa.date64():
        return pa.date32()  # Polars would make it a datetime
    return _VIEWS.get(kind, kind)


_VIEWS: Mapping[pa.DataType, pa.DataType] = {
    pa.string(): pa.string_view(),
    pa.large_string(): pa.string_view(),
    pa.binary(): pa.binary_view(),
    pa.large_binary(): pa.binary_view(),
}
"""Types that Polars would convert itself, in several times the time, in which it holds Python's lock."""

_TEXTS: Mapping[pa.DataType, pa.DataType] = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
"""Types of dictionaries that Arrow cannot decode, and those that it can."""


def _field(field: pa.Field) -> pa.Field:  # type: ignore[type-arg]
    return field.with_type(polars_type(field.type))


@lru_cache(maxsize=256)
def _known_zone(zone: str) -> str:
    """Returns the time zone if Polars knows it, else UTC, in which all instants can be shown."""
    try:
        pl.from_arrow(pa.array([], pa.timestamp("us", zone)))
    except pl.exceptions.PolarsError:
        return "UTC"
    return zone
