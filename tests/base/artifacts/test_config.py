from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

import base.artifacts as afs
from base.errors import Misfit

STORE = afs.FsClient("store", "/{country}/{number}")


class Spec(BaseModel):
    country: str = Field(min_length=2)
    number: int

    @field_validator("country")
    @classmethod
    def known(cls, value: str) -> str:
        if value == "XX":
            raise ValueError("not a country")
        return value

    @model_validator(mode="after")
    def together(self) -> Spec:
        if self.country == "GB" and self.number > 9:
            raise ValueError("too many for GB")
        return self


class OwnClient:
    """A client of an author, without a base class."""

    parameters = ("country",)

    def locate(self, parameters: Mapping[str, str]) -> afs.Artifact:
        return afs.Artifact(Path("/") / parameters["country"])

    def list(self) -> list[dict[str, str]]:
        return []


def test_a_model_is_loaded_on_demand_by_default() -> None:
    """The defaults are the documented ones."""
    config = afs.CacheConfig(client=STORE, load_model=str)
    assert (config.max_size, config.pre_fetch_all, config.spec) == (128, False, None)


def test_any_object_with_the_members_of_a_client_is_one() -> None:
    """An object without them is refused; the error names the missing members."""
    client: afs.Client = OwnClient()
    assert afs.CacheConfig(client=client, load_model=str).client is client
    with pytest.raises(ValidationError, match="lacks parameters, locate"):
        afs.CacheConfig(client=[], load_model=str)


@pytest.mark.parametrize("wrong", [{"max_size": 0}, {"schedule": "0 0 * * *"}, {"load_model": "mlflow"}, {"spec": dict}])
def test_a_setting_that_would_have_no_effect_is_refused(wrong: dict[str, object]) -> None:
    """A misspelt or unknown option is an error."""
    with pytest.raises(ValidationError):
        afs.CacheConfig(**{"client": STORE, "load_model": str, **wrong})


def test_a_spec_names_the_parameters_that_do_not_fit() -> None:
    """The error has the author's own reason."""
    config = afs.CacheConfig(client=STORE, load_model=str, spec=Spec)
    config.validate_parameters({"country": "US", "number": "12"})
    with pytest.raises(Misfit) as refused:
        config.validate_parameters({"country": "XX", "number": "many"})
    assert [(cell.row, cell.column) for cell in refused.value.cells] == [(None, "country"), (None, "number")]
    assert "not a country" in refused.value.detail
    with pytest.raises(Misfit, match="the parameters do not fit: too many for GB"):
        config.validate_parameters({"country": "GB", "number": "12"})


def test_without_a_spec_every_parameter_is_accepted() -> None:
    """The client still checks that values do not lead out of its store."""
    assert afs.CacheConfig(client=STORE, load_model=str).validate_parameters({"country": "anything"}) is None
