"""What every test gets: its folder's marker, its place in the order, a deadline that fits, and a check that it leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import hypothesis
import pytest

import example_models
import leaks
import pexes

HERE = Path(__file__).parent

ORDER = ("processes", "pex", "image")
"""Markers from quick to slow; the folder of that name gets it by itself. Tests without any of them come first."""

ALONE = ("pex", "image")
"""They build and boot what fills the machine, and what they build is built once: by the one process that runs what must be alone."""

TIMEOUTS_S = {"processes": 240, "pex": 900, "image": 900}
"""Processes start while others do. The first test with real pexes also waits for base to be built, which takes minutes on a small one."""


class Trained(NamedTuple):
    """Example models that were trained."""

    artifacts: Path
    iris: dict[str, str]


def pytest_configure() -> None:
    leaks.mark_this_process()
    # Whether data is made quickly says something of the machine, and nothing of what is tested.
    hypothesis.settings.register_profile("busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
    hypothesis.settings.load_profile("busy")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(HERE).parts[0] if item.path.is_relative_to(HERE) else ""
        if folder in ORDER:
            item.add_marker(folder)
        if folder in ALONE:
            item.add_marker("alone")
        for kind, seconds in TIMEOUTS_S.items():
            if item.get_closest_marker(kind) and not item.get_closest_marker("timeout"):
                item.add_marker(pytest.mark.timeout(seconds))
    # Side by side the quick ones come last: they fill what is left at the end, so that no process waits long for another's last file.
    items.sort(key=_rank, reverse=hasattr(config, "workerinput"))


def _rank(item: pytest.Item) -> int:
    return max((place for place, kind in enumerate(ORDER, 1) if item.get_closest_marker(kind)), default=0)


@pytest.fixture(scope="session", autouse=True)
def orders_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What supervisors of tests keep is not found by those of the user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session", autouse=True)
def nothing_outlives_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No process, segment or socket file is left when all fixtures have ended."""
    with leaks.none_in(tmp_path_factory.getbasetemp()):
        yield


@pytest.fixture(autouse=True)
def nothing_outlives_its_test(nothing_outlives_the_session: None, tmp_path: Path) -> Iterator[None]:
    """No process, segment or socket file that a test made is left after it; what wider fixtures made stays theirs."""
    with leaks.none_in(tmp_path):
        yield


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """An artifacts folder with the example models in it, and the parameters of iris' endpoint. Read-only, since tests share it."""
    folder = tmp_path_factory.mktemp("artifacts")
    folder.chmod(0o755)  # the container's user reads it too
    example_models.train("transactions", folder)
    return Trained(folder, example_models.train("iris", folder))


@pytest.fixture(scope="session")
def built_dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like dist/ with the pexes of base and of every example model, built from this tree. Read-only, since tests share it."""
    folder = tmp_path_factory.mktemp("dist")
    folder.chmod(0o755)  # the container's user reads it too
    pexes.build_all(folder)
    return folder
