from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.artifacts.clients.path_template import PathTemplate, check_value
from base.errors import Declaration, Misfit

HOSTILE = ["", ".", "..", "../x", "a/b", "/", "/etc/passwd", "a\\b", "a\0b", "\0", "a\nb", "\x7f", "\x85", "\udcff", None]


@pytest.mark.parametrize(
    ("text", "parameters", "path"),
    [
        ("/{run}/artifacts/{model}", {"run": "r1", "model": "m"}, "r1/artifacts/m"),
        ("{country}/v{n}/model-{x}.bin/", {"n": "2", "x": "a-b", "country": "US"}, "US/v2/model-a-b.bin"),
        ("{a}/{a}-again", {"a": "x"}, "x/x-again"),
        ("plain/file", {}, "plain/file"),
        ("{a}.+({b})", {"a": "1", "b": "2"}, "1.+(2)"),
    ],
)
def test_parameters_and_paths_lead_to_each_other(text: str, parameters: dict[str, str], path: str) -> None:
    """Placeholders may appear anywhere in a component; everything else is literal."""
    template = PathTemplate(text)
    assert template.format({**parameters, "unused": "../.."}) == PurePosixPath(path)
    assert template.match(PurePosixPath(path)) == parameters


@given(st.fixed_dictionaries({"a": st.text(), "b": st.text() | st.sampled_from([".", "..", "../..", "%2e"])}))
def test_a_formatted_path_stays_where_the_template_puts_it(parameters: dict[str, str]) -> None:
    """For all values the path has as many components as the template, none of them special, and matches the template."""
    template = PathTemplate("x{a}/{b}")
    try:
        path = template.format(parameters)
    except Misfit:
        return
    assert len(path.parts) == 2
    assert not {"", ".", "..", "/"} & set(path.parts)
    assert template.match(path) == parameters


@pytest.mark.parametrize("value", HOSTILE, ids=repr)
def test_a_value_that_is_not_a_part_of_one_component_is_refused(value: str | None) -> None:
    """A cell of the error has the parameter's name."""
    with pytest.raises(Misfit) as refused:
        check_value("run", value)
    assert [cell.column for cell in refused.value.cells] == ["run"]
    with pytest.raises(Misfit):
        PathTemplate("{run}").format({} if value is None else {"run": value})


def test_a_repeated_name_must_have_one_value() -> None:
    """Otherwise a listing would find parameters that lead elsewhere."""
    assert PathTemplate("{a}/{a}").match(PurePosixPath("x/y")) is None


def test_a_path_that_does_not_match_has_no_parameters() -> None:
    """It is too deep, too short, or has another literal."""
    template = PathTemplate("{a}/fixed/{b}")
    for path in ("x/fixed", "x/fixed/y/z", "x/other/y", "fixed/y"):
        assert template.match(PurePosixPath(path)) is None


def test_a_folder_that_cannot_lead_to_a_match_is_known_early() -> None:
    """Listings need not read it."""
    template = PathTemplate("v{n}/fixed/{b}")
    assert [template.may_lead_to(PurePosixPath(path)) for path in ("v1", "x1", "v1/fixed", "v1/other", "v1/fixed/b", "v1/fixed/b/c")] == [
        *(True, False, True, False, True, False)
    ]


@pytest.mark.parametrize(
    "text", ["", "/", "a//b", "../{a}", "./a", "a/..", "{}", "{1}", "{a-b}", "{a}{b}", "{a", "a}", "{{a}}", "a\\b", "a\0"]
)
def test_an_invalid_template_is_refused(text: str) -> None:
    """It is refused when it is declared, not when it is used."""
    with pytest.raises(Declaration):
        PathTemplate(text)
