"""Tests of the hint at variables that a worker is not given."""

import os

import pytest

from base.errors import Declaration
from base.log import missing_variable_hint


def error_of(code, namespace=None):
    try:
        exec(code, namespace or {"os": os, "Declaration": Declaration})
    except Exception as exc:  # noqa: BLE001 - whatever the code raises
        return exc


def test_a_missing_environment_variable_gets_a_hint_at_the_setting_that_passes_it_on():
    """Raised as it is, or as the cause of another error; by a package that reads variables, too."""
    assert "(PEXDOCK_WORKER_ENV=DB_URL)" in missing_variable_hint(error_of("os.environ['DB_URL']"))
    wrapped = "try:\n    os.environ['DB_URL']\nexcept KeyError as exc:\n    raise Declaration('not imported') from exc"
    assert "(PEXDOCK_WORKER_ENV=DB_URL)" in missing_variable_hint(error_of(wrapped))
    settings = "from pydantic_settings import BaseSettings\nclass S(BaseSettings):\n    db_url: str\nS()"
    assert "(PEXDOCK_WORKER_ENV=DB_*)" in missing_variable_hint(error_of(settings, {"__name__": "model"}))


@pytest.mark.parametrize("error", [None, error_of("{}['DB_URL']"), error_of("int('x')"), KeyError("DB_URL")])
def test_other_errors_get_none(error):
    """A KeyError of a dict is not that of the environment."""
    assert missing_variable_hint(error) == ""
