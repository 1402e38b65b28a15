"""The spellings that a value of each type has as text: in a cell of CSV, a text of JSON and a parameter.

Digits are named one by one everywhere, since the class of digits in a regular expression has those of every script.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from enum import Enum

INTEGER = "[+-]?[0-9]+"
FRACTION = r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?"
"""A decimal number. It is an integer, too, if its value is one: programs write `1.0` and `1e+05`."""
SPECIAL_FLOATS = ("NaN", "nan", "inf", "-inf", "Inf", "-Inf", "Infinity", "-Infinity")
BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
TIME = r"[0-9]{2}:[0-9]{2}:[0-5][0-9](\.[0-9]{1,9})?"
OFFSET = "(Z|z|[+-][0-9]{2}:[0-9]{2})"
_DURATION = r"-?P(?=[0-9T])([0-9]+D)?(T(?=[0-9])([0-9]+H)?([0-9]+M)?([0-9]+(\.[0-9]{1,9})?S)?)?"

_NO_FINER = r"(?!.*\.[0-9]{6}[0-9]*[1-9])"
"""Precedes what Python holds in microseconds: Pydantic would drop finer digits."""

_DIGITS_MAX = 1000
"""More digits than any number needs. Python takes long to parse integers of thousands of digits."""

_PATTERNS: Mapping[type, re.Pattern[str]] = {
    bool: re.compile("|".join(BOOLEANS)),
    int: re.compile(FRACTION),
    float: re.compile(FRACTION),
    Decimal: re.compile(FRACTION),
    dt.date: re.compile(DATE),
    dt.time: re.compile(_NO_FINER + TIME),
    dt.datetime: re.compile(f"{_NO_FINER}{DATE}([Tt ]{TIME}{OFFSET}?)?"),
    dt.timedelta: re.compile(_NO_FINER + _DURATION),
}

_FORMS: Mapping[type, str] = {
    bool: "true or false",
    int: "an integer such as 10 or 1e3",
    float: "a finite number such as 0.5 or 1e3, or inf, -inf or NaN",
    Decimal: "a decimal number such as 0.5 or 1e3",
    dt.date: "a date such as 2024-02-29",
    dt.time: "a time such as 12:30:00, in microseconds at most",
    dt.datetime: "a date with a time such as 2024-02-29T12:30:00Z, in microseconds at most, or a date, which is its midnight",
    dt.timedelta: "a duration such as P1DT2H30M0.5S, in days, hours, minutes and seconds, in microseconds at most",
}

_ADVICE_MAX_CHARS = 64


def is_spelling(text: str, value: object) -> bool:
    """Returns whether a text is a spelling of the value that Pydantic made of it.

    Pydantic accepts more: spaces, underscores and digits of other scripts in numbers, numbers as dates, `yes` for true.
    """
    if isinstance(value, Enum):
        return is_spelling(text, value.value)
    pattern = _PATTERNS.get(type(value))
    if isinstance(value, float) and text in SPECIAL_FLOATS:
        return True
    return pattern is None or (pattern.fullmatch(text) is not None and not _is_infinite(value))


def advice(value: object) -> str:
    """Returns what to write instead of a text that is no spelling of the value that Pydantic made of it."""
    if isinstance(value, Enum):
        return advice(value.value)
    digits = str(value)
    if type(value) in {int, float, Decimal} and not _is_infinite(value) and len(digits) <= _ADVICE_MAX_CHARS:
        return f"write it as {digits!r}"
    return f"expected {_FORMS[type(value)]}"


def _is_infinite(value: object) -> bool:
    return isinstance(value, float) and abs(value) == float("inf")


def whole_digits(text: str) -> str | None:
    """Returns the digits of an integer that is written as a decimal number, such as 100 for `1e2`; None for any other text."""
    if not re.fullmatch(FRACTION, text) or len(text) > _DIGITS_MAX:
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:  # an exponent of more digits than Decimal has
        return None
    return str(int(number)) if number.adjusted() < _DIGITS_MAX and number == number.to_integral_value() else None
