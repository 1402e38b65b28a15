"""What the documentation promises, and the tests that it names as proof."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
NOT_BUILT = "not built"


def rows(text: str) -> list[list[str]]:
    """The cells of each row of its tables, without heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[-1] != "test" and set(row[-1]) != {"-"}]


def named(cell: str) -> list[tuple[str, str]]:
    return re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", cell)


def missing(text: str) -> list[str]:
    """Tests that are named and are not there."""
    found = {each for row in rows(text) for each in named(row[-1])}
    return [f"{path}::{name}" for path, name in sorted(found) if name not in functions_in(ROOT / path)]


def functions_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text()) if path.exists() else ast.Module([], [])
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_promise_names_a_test_that_exists():
    """Or says that it is not built."""
    text = (ROOT / "docs" / "promises.md").read_text()
    assert len(rows(text)) > 50
    assert [row[0] for row in rows(text) if not named(row[-1]) and row[-1] != NOT_BUILT] == []
    assert missing(text) == []


def test_a_promise_without_its_test_is_found_out():
    """The check above can fail."""
    known = f"`tests/{Path(__file__).name}::test_a_promise_without_its_test_is_found_out`"
    text = f"| promise | test |\n|---|---|\n| a | {known} |\n| b | `tests/test_none.py::test_b` |\n| c | {NOT_BUILT} |\n| d | surely |\n"
    assert missing(text) == ["tests/test_none.py::test_b"]
    assert [row[0] for row in rows(text) if not named(row[-1])] == ["c", "d"]
