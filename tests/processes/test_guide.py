"""The guide for model authors is true: its program runs, its tests pass, and its requests are answered as shown."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import base.artifacts as afs
import base.service as svc
import markdown_guide
from base.endpoint.describe import describe_endpoint
from base.endpoint.discovery import GROUP, discover
from base.testing import TestClient

ROOT = Path(__file__).parent.parent.parent
GUIDE = ROOT / "docs" / "models.md"
TEXT = GUIDE.read_text()
FRAMES = ROOT / "docs" / "frames.md"
FITTING = ROOT / "docs" / "fitting.md"
TUTORIAL = ROOT / "docs" / "tutorials" / "forecast.md"
PAGES = {page.name: page for page in (GUIDE, FRAMES, FITTING, TUTORIAL)}
EXCHANGES = [(name, each) for name, page in PAGES.items() for each in markdown_guide.exchanges(page.read_text())]


def load(patch: pytest.MonkeyPatch, folder: Path, name: str, program: str) -> ModuleType:
    """Loads a program as a module, in a folder that stays the working directory."""
    file = folder / f"{name}.py"
    file.write_text(program)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    patch.chdir(folder)
    patch.setitem(sys.modules, name, made)  # where annotations are looked up
    spec.loader.exec_module(made)
    return made


@pytest.mark.parametrize("page", [*PAGES.values(), ROOT / "README.md"], ids=lambda each: each.name)
def test_postponed_annotations_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: Path) -> None:
    """The same program with `from __future__ import annotations` describes every endpoint identically."""
    program = markdown_guide.program(page.read_text())
    plain = load(monkeypatch, tmp_path, "plain", program)
    postponed = load(monkeypatch, tmp_path, "postponed", f"from __future__ import annotations{program}")
    found = [{each.path: describe_endpoint(each) for each in endpoints_of(made)} for made in (plain, postponed)]
    assert found[0]
    assert found[0] == found[1]


def endpoints_of(made: ModuleType) -> list[svc.Endpoint[..., Any]]:
    """Returns the endpoints of a module, and those of its contexts."""
    found = [value for value in vars(made).values() if isinstance(value, svc.Endpoint)]
    return found + [each for value in vars(made).values() if isinstance(value, svc.Contexts) for each in value.endpoints]


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ModuleType]]:
    """Returns the Python of each page as a module, run in a folder of its own. Its asserts hold, or nothing here passes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PEXDOCK_ARTIFACTS_PATH", raising=False)
        patch.setenv("PEXDOCK_CACHE_PATH", str(tmp_path_factory.mktemp("cache")))
        yield {
            name: load(patch, tmp_path_factory.mktemp("guide"), f"the_{page.stem}", markdown_guide.program(page.read_text()))
            for name, page in reversed(PAGES.items())  # the folder of the last one stays the working directory
        }


@pytest.fixture(scope="module")
def clients(modules: dict[str, ModuleType]) -> Iterator[dict[str, TestClient]]:
    with ExitStack() as stack:
        found = {name: stack.enter_context(TestClient(*endpoints_of(made))) for name, made in modules.items()}
        for name, first in dict(reversed(EXCHANGES)).items():  # the segment that all tests share comes with the first batch
            found[name].request(first.method, first.path, content=first.body.encode(), headers=first.headers)
        yield found


@pytest.mark.parametrize(("page", "exchange"), EXCHANGES, ids=[f"{name} line {each.line}" for name, each in EXCHANGES])
def test_a_request_is_answered_as_the_guide_shows(clients: dict[str, TestClient], page: str, exchange: markdown_guide.Exchange) -> None:
    """Status and body match over real HTTP."""
    answer = clients[page].request(exchange.method, exchange.path, content=exchange.body.encode(), headers=exchange.headers)
    assert answer.status == exchange.status, answer.text
    assert markdown_guide.agrees(exchange.answer, answer.headers.get("content-type", ""), answer.text), answer.text


def test_the_tests_in_the_guide_pass(modules: dict[str, ModuleType]) -> None:
    """There are some, and each starts what it needs."""
    tests = [value for name, value in vars(modules[GUIDE.name]).items() if name.startswith("test_")]
    assert len(tests) >= 2
    for each in tests:
        each()


def test_the_guides_project_is_discovered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first block is a release under the entry point that its pyproject.toml declares."""
    project = tomllib.loads(markdown_guide.blocks(TEXT, "toml")[0][1])
    points = project["project"]["entry-points"][GROUP]
    name, version = project["project"]["name"], project["project"]["version"]
    (package,) = {value.partition(".")[0] for value in points.values()}
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").touch()
    (tmp_path / package / "endpoints.py").write_text(markdown_guide.blocks(TEXT, "python")[0][1])
    about = tmp_path / f"{name}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (about / "entry_points.txt").write_text(f"[{GROUP}]\n" + "".join(f"{key} = {value}\n" for key, value in points.items()))
    monkeypatch.syspath_prepend(str(tmp_path))
    found = discover([str(tmp_path)])
    assert (found.model, found.version, [each.path for each in found.endpoints]) == (name, version, ["/areas"])
    for each in [each for each in sys.modules if each.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, each)


def test_the_clients_in_the_guide_can_be_created(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """They take the shown arguments, and connect to nothing before they must."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # else MlflowClient would set it for the tests that follow
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    shown = re.findall(r"`(ObjectStoreClient|MlflowClient)\(([^)]+)\)`", TEXT)
    made = [getattr(afs, name)(*ast.literal_eval(f"[{arguments}]")) for name, arguments in shown]
    assert [list(client.parameters) for client in made] == [["country"], ["name", "alias"]]


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_a_page_is_short_and_its_links_lead_somewhere(page: Path) -> None:
    """It has fewer than 440 lines."""
    text = page.read_text()
    assert len(text.splitlines()) < 440
    links = re.findall(r"\]\(([^):#]+)\)", text)
    assert links
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_readme_links_to_the_guide() -> None:
    """Authors find it."""
    assert "(docs/models.md)" in (ROOT / "README.md").read_text()
