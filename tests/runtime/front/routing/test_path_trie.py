"""Paths and the endpoints that they lead to."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.errors import Misfit
from runtime.front.routing.path_trie import Match, PathTrie


@pytest.fixture
def router() -> PathTrie[str]:
    made: PathTrie[str] = PathTrie()
    made.add_path("/iris/{run_id}/{model_id}", "iris")
    made.add_path("/iris/versions", "versions")
    made.add_path("/{any}/fixed", "fixed")
    return made


@pytest.mark.parametrize(
    ("path", "match"),
    [
        (b"/iris/a/b", Match("iris", {"run_id": "a", "model_id": "b"})),
        (b"/iris/a/b/", Match("iris", {"run_id": "a", "model_id": "b"})),
        (b"/iris/versions", Match("versions", {})),
        (b"/iris/fixed", Match("fixed", {"any": "iris"})),
        (b"/iris/a%20b/%C3%A9", Match("iris", {"run_id": "a b", "model_id": "é"})),
        (b"/iris", None),
        (b"/iris/a/b/c", None),
        (b"/", None),
        (b"", None),
        (b"/IRIS/a/b", None),
    ],
)
def test_a_path_leads_to_its_endpoint(router: PathTrie[str], path: bytes, match: Match[str] | None) -> None:
    """Literals win over parameters, a dead end leads back to the parameter, and values are decoded."""
    assert router.match(path) == match


@pytest.mark.parametrize(
    "value", [b"..", b"%2e%2e", b"%2E.", b".", b"%2e", b"a%2fb", b"%2Fetc", b"a%5cb", b"a%00", b"%0a", b"", b"%ff", b"%7f"]
)
def test_a_value_that_could_name_another_place_is_refused(router: PathTrie[str], value: bytes) -> None:
    """No decoded value can climb out of a folder or truncate a name."""
    with pytest.raises(Misfit):
        router.match(b"/iris/" + value + b"/b")


@given(
    st.text(st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="/\\"), min_size=1).filter(lambda v: v not in {".", ".."})
)
def test_any_other_value_is_decoded_exactly_once(value: str) -> None:
    """Percent-encoding is undone exactly once."""
    router: PathTrie[str] = PathTrie()
    router.add_path("/a/{x}/b", "t")
    assert router.match(f"/a/{quote(value, safe='')}/b".encode()) == Match("t", {"x": value})
