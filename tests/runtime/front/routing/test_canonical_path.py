"""The canonical form of a path, against one that is put together from its segments by the standard library."""

from __future__ import annotations

import contextlib
import sys
from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from base.errors import Misfit
from runtime.front.routing.canonical_path import canonical_path, split_path
from runtime.front.routing.path_trie import PathTrie

PIECES = st.sampled_from([*'/%2fFaA4.~!:{ "', "%2F", "%61", "%C3%BC", "//"])
TARGETS = st.lists(PIECES, max_size=10).map(lambda pieces: "/" + "".join(pieces))


def by_segments(path: str) -> tuple[list[bytes], str]:
    """Returns the decoded segments of a path, and its canonical form."""
    segments = [unquote_to_bytes(segment) for segment in path.split("/")[1:]]
    if segments[-1] == b"":
        segments.pop()
    form = "".join("/" + quote(segment, safe="!$&'()*+,;=:@") for segment in segments)
    return segments, form + "/" if not form or form.endswith("/") else form


@settings(max_examples=1000)
@given(TARGETS)
@example("/%%2F")
@example("/%4%31")
def test_the_canonical_form_is_that_of_the_decoded_segments(path: str) -> None:
    """So two paths have one form exactly if they have the same segments; and the form of a form is itself."""
    segments, form = by_segments(path)
    assert canonical_path(path.encode()).decode() == form
    assert split_path(path.encode()) == split_path(form.encode()) == segments
    assert canonical_path(form.encode()).decode() == form


@pytest.mark.parametrize("unit", ["/", "%41", "%2f", "/%41", '"'])
def test_the_work_for_a_long_path_is_linear(unit: str) -> None:
    """A client may send 64 KB of it, and no endpoint has so many segments."""
    trie: PathTrie[str] = PathTrie()
    trie.add_path("/a/{x}", "a")
    calls = [count_calls(trie, ("/" + unit * count).encode()) for count in (1000, 2000)]
    assert calls[1] <= 2 * calls[0] + 10
    assert calls[0] <= 1000 + 30


def count_calls(trie: PathTrie[str], path: bytes) -> int:
    """Returns the number of calls of Python functions that routing a path takes."""
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    with contextlib.suppress(Misfit):
        sys.setprofile(count)
        try:
            trie.match(canonical_path(path))
        finally:
            sys.setprofile(None)
    return calls
