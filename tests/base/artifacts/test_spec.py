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
    """Enums by value, numbers in one spelling; so they share a cache entry and lead to one path."""
    reader = SpecValidator(RegionSpec)
    written = [{"iso3166_1": "US", "number": n, "day": "2026-01-02", "exact": e} for n, e in (("7", "true"), ("007", "1"), ("+7", "yes"))]
    assert [reader.canonical_parameters(each) for each in written] == [{"iso3166_1": "US", "number": "7", "day": "2026-01-02", "exact": "true"}] * 3


@given(st.integers(0, 10**9), st.integers(0, 5), st.permutations(["country", "version"]))
def test_a_key_does_not_depend_on_order_or_spelling(number: int, zeros: int, order: list[str]) -> None:
    """Zeros in front of a number and the order of a path make no difference."""
    given_ = {"country": "US", "version": "0" * zeros + str(number)}
    assert SpecValidator(Versioned).canonical_parameters({name: given_[name] for name in order}) == {"country": "US", "version": str(number)}


def test_a_parameter_is_matched_by_its_only_likeness() -> None:
    """As where a path says iso_3166_1 and a spec iso3166_1; the client is asked by the path's name."""
    reader = SpecValidator(RegionSpec)
    assert reader.canonical_parameters({"iso_3166_1": "GB"}) == {"iso_3166_1": "GB"}
    instance = reader.validate({"iso_3166_1": "GB", "number": "3"})
    assert isinstance(instance, RegionSpec)
    assert (instance.iso3166_1, instance.number) == (Country.BRITAIN, 3)
    with pytest.raises(Misfit):
        reader.validate({"iso_3166_1": "GB", "iso_31661": "GB"})


def test_an_alias_is_a_name() -> None:
    """Of the parameter that the field takes."""

    class Aliased(BaseModel):
        number: int = Field(alias="n")

    assert SpecValidator(Aliased).canonical_parameters({"n": "07", "other": "07"}) == {"n": "7", "other": "07"}


def test_a_request_may_say_latest_for_a_marked_field_alone() -> None:
    """The instance has the field's default then, or the word."""
    assert SpecValidator(Optionally).validate({"version": "latest"}) == Optionally()
    instance = SpecValidator(Versioned).validate({"country": "US", "version": "latest"})
    assert isinstance(instance, Versioned)
    assert instance.version == "latest"
    assert SpecValidator(Versioned).canonical_parameters({"country": "US", "version": "latest"})["version"] == "latest"
    for wrong in ("newest", "-1"):
        with pytest.raises(Misfit):
            SpecValidator(Versioned).validate({"country": "US", "version": wrong})


def test_the_latest_is_the_greatest_value_as_the_spec_understands_it(tmp_path: Path) -> None:
    """Ten is after nine; other countries and what is no version do not count; the path is spelt as it is on disk."""
    for name in ("US/9", "US/010", "US/notes", "GB/11"):
        made(tmp_path / name / "model")
    found = resolve_latest(config(Versioned, base=tmp_path), {"country": "US", "version": "latest"})
    assert found == {"country": "US", "version": "010"}
    with pytest.raises(NotFound, match="country='FR'"):
        resolve_latest(config(Versioned, base=tmp_path), {"country": "FR", "version": "latest"})


def test_the_order_of_versions_is_declared(tmp_path: Path) -> None:
    """By any comparison of two values: here the least is the newest."""

    class Countdown(BaseModel):
        version: Annotated[int, afs.LatestKey(compare_with=operator.lt)]

    for name in ("3", "1", "2"):
        made(tmp_path / name)
    assert resolve_latest(config(Countdown, "{version}", tmp_path), {"version": "latest"}) == {"version": "1"}


def test_a_manifest_tells_the_latest(tmp_path: Path) -> None:
    """It stands in the place of the component with the parameter; nothing is listed, and what it says is contained as any value."""

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
    """Two of them, one without a store, and a manifest that the client cannot read."""

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


def test_the_readme_s_spec_works_as_it_is_written() -> None:
    """Enums by a validator before, one field that looks at another, and a path that spells them differently."""

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
