from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from sklearn.pipeline import Pipeline

from base.endpoint.describe import example_request
from base.errors import Misfit, NotFound
from transactions import endpoints, fitting, train


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifacts")
    train.train(folder / "transactions", list(train.PLACES))
    return folder


@pytest.fixture
def model(artifacts: Path, monkeypatch: pytest.MonkeyPatch):
    """Returns a function that loads a model as the worker does."""
    monkeypatch.setenv("PEXDOCK_ARTIFACTS_PATH", str(artifacts))
    config = endpoints.predict.cache_config
    assert config is not None

    def loaded(country: str, subdivision: str) -> Pipeline:
        parameters = {"country": country, "subdivision": subdivision}
        config.validate_parameters(parameters)
        return config.load_model(str(config.client.locate(parameters).location))

    return loaded


ROWS = pl.DataFrame(
    {"amount": [20.0, 950.0], "hour": [14, 3], "abroad": [False, True], "merchant": ["grocery", "never seen"]},
    schema=endpoints.Transaction.polars_schema(),
)


def test_each_place_has_a_model_of_its_own_or_its_countrys(model) -> None:
    """California differs from New York; Texas is served by the model of the United States."""
    rated = {place: endpoints.predict(model("US", place), ROWS)["fraud"].to_list() for place in ("US-CA", "US-NY", "US-TX", "US-AK")}
    assert rated["US-TX"] == rated["US-AK"]
    assert len({str(each) for each in rated.values()}) == 3


def test_the_result_fits_its_schema(model) -> None:
    """Probabilities of at least one half are flagged; the purchase abroad at night is the suspicious one."""
    rated = endpoints.predict(model("GB", "GB-ENG"), ROWS)
    assert rated.schema == endpoints.Rating.polars_schema()
    assert rated["flagged"].to_list() == [False, True]


def test_a_subdivision_of_another_country_is_refused(model) -> None:
    """Otherwise the fallback would rate it with the model of the wrong country."""
    for country, subdivision in (("US", "GB-ENG"), ("us", "us-CA"), ("US", "US"), ("U.", "U.-A")):
        with pytest.raises(Misfit):
            model(country, subdivision)
    with pytest.raises(NotFound):
        model("FR", "FR-IDF")


def test_training_makes_the_same_models_each_time(artifacts: Path) -> None:
    """The seed is fixed."""
    assert fitting.generate(1).equals(fitting.generate(1))
    assert not fitting.generate(1).equals(fitting.generate(2))


def test_the_example_is_a_request_that_works(model) -> None:
    """It names the newest place with both parameters."""
    example = example_request(endpoints.predict)
    assert example is not None
    assert endpoints.predict(model(**example.parameters), pl.DataFrame(example.rows)).height == 1
