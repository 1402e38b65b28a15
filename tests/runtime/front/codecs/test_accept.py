"""The Accept header is parsed as RFC 9110, 12.5.1 defines it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.front.codecs.accept import MediaRange, parse_accept, preferred_media_type

OFFERED = ("application/json", "application/x-ndjson", "text/csv", "text/event-stream")


@pytest.mark.parametrize(
    ("accept", "preferred"),
    [
        ("", None),
        ("*/*", "application/json"),
        ("text/csv", "text/csv"),
        ("TEXT/CSV", "text/csv"),
        ("text/*", "text/csv"),
        ("application/*", "application/json"),
        ("image/*", None),
        ("text/html, application/xhtml+xml, */*;q=0.8", "application/json"),
        ("text/csv, */*", "text/csv"),
        ("text/csv;q=0.5, */*;q=0.1", "text/csv"),
        ("text/csv;q=0.5, */*", "application/json"),
        ("text/*;q=0.9, application/json;q=0.5", "text/csv"),
        ("text/*, text/csv;q=0", "text/event-stream"),
        ("*/*, application/json;q=0", "application/x-ndjson"),
        ("*/*;q=0", None),
        ("text/event-stream, text/csv", "text/event-stream"),
        ("text/csv, text/event-stream", "text/csv"),
        ('text/csv;x="a,b;q=0", image/png', "text/csv"),
        ('text/csv;x="\\",";q=0', None),
        ("text/csv ; charset=utf-8 ; Q=0.5 , application/json ; q=0.4", "text/csv"),
    ],
)
def test_the_preferred_media_type_has_the_highest_quality(accept: str, preferred: str | None) -> None:
    """The most specific range gives the quality; specificity, then order decide between equal qualities."""
    assert preferred_media_type(accept, OFFERED) == preferred


@pytest.mark.parametrize(
    "element", ["text", "text/", "/csv", "*", "*/csv", "text/csv/x", "text/c v", "text/csv;q=2", "text/csv;q=x", "text/csv;q=-1"]
)
def test_an_element_that_is_invalid_is_skipped(element: str) -> None:
    """The other elements count all the same."""
    assert preferred_media_type(element, OFFERED) is None
    assert preferred_media_type(f"{element}, application/x-ndjson;q=0.1", OFFERED) == "application/x-ndjson"


def test_ranges_keep_their_order_and_qualities() -> None:
    """Parameters other than the quality are ignored."""
    assert parse_accept("text/csv;header=absent, text/*;q=0.25,*/*;q=0.") == [
        MediaRange("text", "csv", 1.0),
        MediaRange("text", "*", 0.25),
        MediaRange("*", "*", 0.0),
    ]


@given(st.text(max_size=200) | st.text(alphabet='tex/csv*;,q=01." \\', max_size=200))
def test_any_header_can_be_parsed(accept: str) -> None:
    """A client may send anything."""
    assert all(0 <= each.quality <= 1 for each in parse_accept(accept))
    assert preferred_media_type(accept, OFFERED) in {None, *OFFERED}


@pytest.mark.parametrize("piece", ['"', '\\"', '"\\', ",", ";", "a/b;q=1,"])
def test_the_time_to_parse_is_linear(piece: str) -> None:
    """A header of a megabyte, which no front door admits, takes less than seconds."""
    began = time.perf_counter()
    parse_accept('a/b;x="' + piece * (1_000_000 // len(piece)))
    assert time.perf_counter() - began < 10
