"""Real pexes for the tests in this folder: the base of this tree, and tiny models built on it as users build theirs."""

from pathlib import Path

import pytest

import pexes
from model_projects import DOUBLE, write_project
from runtime.build.model import build_model


@pytest.fixture(scope="session")
def base_pex(built_dist: Path) -> Path:
    """The base of this tree."""
    (found,) = built_dist.glob("base-*.pex")
    return found


@pytest.fixture
def build_tiny_model(tmp_path, base_pex):
    """`build_tiny_model(source, name=..., version=..., dependencies=..., more=...)`: the BuiltPex of a project with that one module."""

    def build(source=DOUBLE, *, carry=(), out=None, cache=None, **kwargs):
        folder = write_project(tmp_path / f"project-{len(list(tmp_path.iterdir()))}", source, **kwargs)
        return build_model(folder, base_pex, out or tmp_path, carry, cache=cache or pexes.cache(), report=pexes.report)

    return build
