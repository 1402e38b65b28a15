"""The guide for model authors is true: its program runs, its tests pass, and its requests are answered as shown."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

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
EXCHANGES = list(markdown_guide.exchanges(TEXT))


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


@pytest.mark.parametrize("page", [GUIDE, ROOT / "README.md"], ids=lambda each: each.name)
def test_postponed_annotations_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: Path) -> None:
    """The same program with `from __future__ import annotations` describes every endpoint identically."""
    program = markdown_guide.program(page.read_text())
    plain = load(monkeypatch, tmp_path, "plain", program)
    postponed = load(monkeypatch, tmp_path, "postponed", f"from __future__ import annotations{program}")
    found = [
        {each.path: describe_endpoint(each) for each in vars(made).values() if isinstance(each, svc.Endpoint)}
        for made in (plain, postponed)
    ]
    assert found[0]
    assert found[0] == found[1]


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """Returns the guide's Python as a module, run in a folder of its own. Its asserts hold, or nothing here passes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PEXDOCK_ARTIFACTS_PATH", raising=False)
        yield load(patch, tmp_path_factory.mktemp("guide"), "the_guide", markdown_guide.program(TEXT))


@pytest.fixture(scope="module")
def client(module: ModuleType) -> Iterator[TestClient]:
    endpoints = [value for value in vars(module).values() if isinstance(value, svc.Endpoint)]
    with TestClient(*endpoints) as client:
        client.post("/areas", json=[{"petal_length": 1}])  # the segment that all tests share comes with the first batch
        yield client


@pytest.mark.parametrize("exchange", EXCHANGES, ids=[f"line {each.line}" for each in EXCHANGES])
def test_a_request_is_answered_as_the_guide_shows(client: TestClient, exchange: markdown_guide.Exchange) -> None:
    """Status and body match over real HTTP."""
    answer = client.post(exchange.path, content=exchange.body.encode(), headers=exchange.headers)
    assert answer.status == exchange.status, answer.text
    assert markdown_guide.agrees(exchange.answer, answer.headers["content-type"], answer.text), answer.text


def test_the_tests_in_the_guide_pass(module: ModuleType) -> None:
    """There are some, and each starts what it needs."""
    tests = [value for name, value in vars(module).items() if name.startswith("test_")]
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


def test_the_guide_is_short_and_linked_from_the_readme() -> None:
    """It has fewer than 440 lines, and each of its links within the project leads somewhere."""
    assert len(TEXT.splitlines()) < 440
    assert "(docs/models.md)" in (ROOT / "README.md").read_text()
    links = re.findall(r"\]\(([^):#]+)\)", TEXT)
    assert links
    assert [link for link in links if not (GUIDE.parent / link).exists()] == []


def test_a_wrong_guide_is_detected() -> None:
    """Cases are another value, another kind of number, a missing field, another text, and an invented option."""
    assert markdown_guide.agrees('{"a": [1.0]}', "application/json", '{"id": "x", "a": [1.0]}')
    assert not markdown_guide.agrees('{"a": [1]}', "application/json", '{"a": [1.0]}')
    assert not markdown_guide.agrees('{"b": 1}', "application/json", '{"a": 1}')
    assert markdown_guide.agrees("a\n1", "text/csv", "a\n1\n")
    assert not markdown_guide.agrees("a\n1", "text/csv", "a\n2\n")


def test_a_guide_is_parsed() -> None:
    """Lines keep their numbers; headers, bodies and responses are told apart."""
    text = (
        "# A\n```python\na = 1\n```\n\n```python\nb = 2\n```\n"
        "```http\nPOST /a\nAccept: text/csv\na\n1\n→ 200\na\n1\nPOST /b {} → 404\nPOST /c 1\nX: y\n→ 201 2\n```\n"
    )
    assert markdown_guide.program(text) == "\n\na = 1\n\n\n\nb = 2\n"
    assert list(markdown_guide.exchanges(text)) == [
        markdown_guide.Exchange(10, "/a", {"accept": "text/csv"}, "a\n1", 200, "a\n1"),
        markdown_guide.Exchange(17, "/b", {}, "{}", 404, ""),
        markdown_guide.Exchange(18, "/c", {"x": "y"}, "1", 201, "2"),
    ]
    with pytest.raises(ValueError, match="line 2"):
        list(markdown_guide.exchanges("```http\nGET /a\n→ 200\n```\n"))
