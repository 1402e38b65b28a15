from __future__ import annotations

import importlib.metadata
import tomllib
from pathlib import Path

import polars as pl
import pytest

from legacy_iris import endpoints

PROJECT = Path(__file__).parents[1]


def test_it_predicts_without_an_artifact() -> None:
    """The model is fitted once per process; a batch gives the same results as its rows one by one."""
    rows = pl.DataFrame({"sepal_width": [3.5, 3.0], "petal_length": [1.4, 4.2], "petal_width": [0.2, 1.3]})
    together = endpoints.predict(rows).to_list()
    assert together == pytest.approx([endpoints.predict(rows[:1])[0], endpoints.predict(rows[1:])[0]])
    assert together[0] == pytest.approx(5.015, abs=0.001)
    assert endpoints.model() is endpoints.model()


def test_versions_are_those_of_this_environment() -> None:
    """The version is null if a package is not installed."""
    asked = pl.DataFrame({"package": ["scikit-learn", "no-such-package"]})
    assert endpoints.versions(asked) == [importlib.metadata.version("scikit-learn"), None]


def test_it_pins_another_scikit_learn_than_base_and_carries_it() -> None:
    """This is the purpose of this model."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    assert project["tool"]["pexdock"]["carry"] == ["scikit-learn"]
    locked = {each["name"]: each["version"] for each in tomllib.loads((PROJECT / "poetry.lock").read_text())["package"]}
    base = {each["name"]: each["version"] for each in tomllib.loads((PROJECT.parents[1] / "poetry.lock").read_text())["package"]}
    assert locked["scikit-learn"].split(".")[:2] != base["scikit-learn"].split(".")[:2]
