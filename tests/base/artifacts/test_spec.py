from __future__ import annotations

import datetime as dt
import enum
import operator
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError, field_validator

import base.artifacts as afs
from base.artifacts.cache.load import resolve_latest
from base.artifacts.spec import SpecValidator
from base.errors import Misfit, NotFound


class Country(enum.Enum):
    UNITED_STATES = "US"
    BRITAIN = "GB"


class RegionSpec(afs.ArtifactSpec[dict[str, Any]]):
    iso3166_1: Country
    number: int = 1
    day: dt.date | None = None
    exact: bool = False


class Versioned(afs.ArtifactSpec[Any]):
    country: str
    version: Annotated[int, Field(ge=0), afs.LatestKey()]


class Optionally(BaseModel):
    version: Annotated[int | None, afs.LatestKey] = None


def config(spec: type[BaseModel], template: str = "{country}/{version}/model", base: Path = Path("store")) -> afs.CacheConfig:
    return afs.CacheConfig(client=afs.FsClient(base, template), load_model=str, spec=spec)


def made(path: Path, text: str = "model") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_equal_values_have_one_text() -> None:
    """Enums are written by value and numbers in one spelling, so that equal values share a cache entry and a path."""
    reader = SpecValidator(RegionSpec)
    written = [
        {"iso3166_1": "US", "number": n, "day": "2026-01-02", "exact": e} for n, e in (("7", "true"), ("007", "True"), ("+7", "TRUE"))
    ]
    assert [reader.canonical_parameters(each) for each in written] == [
        {"iso3166_1": "US", "number": "7", "day": "2026-01-02", "exact": "true"}
    ] * 3


@given(st.integers(0, 10**9), st.integers(0, 5), st.permutations(["country", "version"]))
def test_a_key_does_not_depend_on_order_or_spelling(number: int, zeros: int, order: list[str]) -> None:
    """Leading zeros and the order of the path's parameters make no difference."""
    given_ = {"country": "US", "version": "0" * zeros + str(number)}
    assert SpecValidator(Versioned).canonical_parameters({name: given_[name] for name in order}) == {
        "country": "US",
        "version": str(number),
    }


def test_a_parameter_is_matched_to_the_only_similar_field() -> None:
    """A path may have iso_3166_1 and a spec iso3166_1; the client gets the name of the path."""
    reader = SpecValidator(RegionSpec)
    assert reader.canonical_parameters({"iso_3166_1": "GB"}) == {"iso_3166_1": "GB"}
    instance = reader.validate({"iso_3166_1": "GB", "number": "3"})
    assert isinstance(instance, RegionSpec)
    assert (instance.iso3166_1, instance.number) == (Country.BRITAIN, 3)
    with pytest.raises(Misfit):
        reader.validate({"iso_3166_1": "GB", "iso_31661": "GB"})


def test_an_alias_matches_a_parameter() -> None:
    """The alias is the name of the parameter that gives the field its value."""

    class Aliased(BaseModel):
        number: int = Field(alias="n")

    assert SpecValidator(Aliased).canonical_parameters({"n": "07", "other": "07"}) == {"n": "7", "other": "07"}


def test_only_a_marked_field_may_be_latest() -> None:
    """The instance then has the field's default, or the text."""
    assert SpecValidator(Optionally).validate({"version": "latest"}) == Optionally()
    instance = SpecValidator(Versioned).validate({"country": "US", "version": "latest"})
    assert isinstance(instance, Versioned)
    assert instance.version == "latest"
    assert SpecValidator(Versioned).canonical_parameters({"country": "US", "version": "latest"})["version"] == "latest"
    for wrong in ("newest", "-1"):
        with pytest.raises(Misfit):
            SpecValidator(Versioned).validate({"country": "US", "version": wrong})


def test_the_latest_is_the_greatest_validated_value(tmp_path: Path) -> None:
    """10 is newer than 9; other countries and invalid versions do not count; the path has the spelling on disk."""
    for name in ("US/9", "US/010", "US/notes", "GB/11"):
        made(tmp_path / name / "model")
    found = resolve_latest(config(Versioned, base=tmp_path), {"country": "US", "version": "latest"})
    assert found == {"country": "US", "version": "010"}
    with pytest.raises(NotFound, match="country='FR'"):
        resolve_latest(config(Versioned, base=tmp_path), {"country": "FR", "version": "latest"})


def test_the_order_of_versions_is_declared(tmp_path: Path) -> None:
    """Any comparison of two values can be used: here the smallest is the newest."""

    class Countdown(BaseModel):
        version: Annotated[int, afs.LatestKey(compare_with=operator.lt)]

    for name in ("3", "1", "2"):
        made(tmp_path / name)
    assert resolve_latest(config(Countdown, "{version}", tmp_path), {"version": "latest"}) == {"version": "1"}


def test_a_manifest_gives_the_latest(tmp_path: Path) -> None:
    """The manifest replaces the component with the parameter; nothing is listed, and its value is checked as any other."""

    class Promoted(BaseModel):
        country: str
        version: Annotated[str, afs.LatestKey(manifest="LATEST")]

    made(tmp_path / "US/LATEST", "blue\n")
    made(tmp_path / "US/vblue.d/model")
    asked = {"country": "US", "version": "latest"}
    declared = config(Promoted, "{country}/v{version}.d/model", tmp_path)
    assert declared.client.locate(resolve_latest(declared, asked)).location == tmp_path / "US/vblue.d/model"
    with pytest.raises(NotFound):
        resolve_latest(declared, asked | {"country": "GB"})
    made(tmp_path / "US/LATEST", "../../secret")
    with pytest.raises(Misfit):
        declared.client.locate(resolve_latest(declared, asked))


def test_a_latest_key_that_cannot_work_is_refused_when_it_is_declared() -> None:
    """The cases are two keys, a key without a store, and a manifest that the client cannot read."""

    class Two(BaseModel):
        a: Annotated[int, afs.LatestKey]
        b: Annotated[int, afs.LatestKey]

    class Manifest(BaseModel):
        a: Annotated[int, afs.LatestKey(manifest="LATEST")]

    class Bare:
        parameters = ("a",)

        def locate(self, parameters: Mapping[str, str]) -> afs.Artifact:
            raise NotImplementedError

        def list(self) -> list[dict[str, str]]:
            return []

    for wrong in ({"spec": Two, "client": afs.FsClient("x", "{a}")}, {"spec": Optionally}, {"spec": Manifest, "client": Bare()}):
        with pytest.raises(ValidationError):
            afs.CacheConfig(load_model=str, **wrong)


def test_the_documented_spec_works() -> None:
    """It has enums with a `before` validator, a field that depends on another, and a path with other spellings."""

    class Iso3166_2(enum.Enum):  # noqa: N801 - the standard's name
        US_CA = "US-CA"
        GB_ENG = "GB-ENG"

    class Spec(afs.ArtifactSpec[Any]):
        iso3166_1: Country
        iso3166_2: Iso3166_2

        @field_validator("iso3166_2", mode="after")
        @classmethod
        def inside(cls, value: Iso3166_2, info: Any) -> Iso3166_2:
            if not value.value.startswith(info.data["iso3166_1"].value):
                raise ValueError(f"{value.value} is not inside")
            return value

    reader = SpecValidator(Spec)
    assert reader.canonical_parameters({"iso_3166_2": "US-CA", "iso_3166_1": "US"}) == {"iso_3166_2": "US-CA", "iso_3166_1": "US"}
    with pytest.raises(Misfit, match="GB-ENG is not inside"):
        reader.validate({"iso_3166_1": "US", "iso_3166_2": "GB-ENG"})
