from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from base.endpoint.discovery import GROUP, discover
from base.errors import Declaration

Install = Callable[..., None]

CODE = """
import polars as pl
from base.endpoint.endpoint import endpoint

def made(name, path):
    def handle(records_df: pl.DataFrame) -> pl.DataFrame:
        return records_df
    handle.__name__ = name
    return endpoint(path)(handle)
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs a distribution in a folder of `sys.path`."""
    monkeypatch.syspath_prepend(tmp_path)

    def installed(name: str, code: str, version: str = "1.2.3", **points: str) -> None:
        # Modules are remembered by name, so each test has its own.
        module = f"{name}_{tmp_path.name}".replace("-", "_")
        (tmp_path / f"{module}.py").write_text(CODE + code)
        info = tmp_path / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        lines = [f"{point} = {value.replace('MODULE', module)}" for point, value in points.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines]) if lines else "")

    return installed


def test_endpoints_come_in_the_order_of_their_entry_points(install: Install, tmp_path: Path) -> None:
    """The release has the distribution's normalized name and its version."""
    install("My_Model", "one = made('one', '/one')\nrest = [made('two', '/two'), made('three', '/three')]", b="MODULE:one", a="MODULE:rest")
    install("bystander", "")
    found = discover([str(tmp_path)])
    assert (found.model, found.version) == ("my-model", "1.2.3")
    assert [endpoint.name for endpoint in found.endpoints] == ["two", "three", "one"]


def test_an_environment_without_endpoints_is_refused_with_advice(install: Install, tmp_path: Path) -> None:
    """The message has the name of the table to add."""
    install("nothing", "")
    with pytest.raises(Declaration, match=r'\[project\.entry-points\."pexdock\.endpoints"\]'):
        discover([str(tmp_path)])


def test_two_distributions_with_endpoints_are_refused(install: Install, tmp_path: Path) -> None:
    """It would be a guess which of them is the release."""
    install("first", "one = made('one', '/one')", it="MODULE:one")
    install("second", "one = made('one', '/two')", it="MODULE:one")
    with pytest.raises(Declaration, match="first, second"):
        discover([str(tmp_path)])


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("raise RuntimeError('no licence')", "cannot be imported: RuntimeError: no licence"),
        ("import nowhere_to_be_found", "cannot be imported: ModuleNotFoundError"),
        ("raise SystemExit(3)", "cannot be imported: its code calls sys.exit(3)"),
        ("", "cannot be imported: AttributeError"),
        ("it = made", "is of type function, not an endpoint"),
        ("it = [made('a', '/a'), 3]", "is of type int, not an endpoint"),
        ("it = []", "is an empty list"),
        ("it = [made('a', '/a/{x}'), made('b', '/a/{y}/')]", "has the path /a/{y}, which entry point"),
    ],
)
def test_a_broken_entry_point_is_named(install: Install, tmp_path: Path, code: str, says: str) -> None:
    """The message says what is wrong; the cause is kept where the import raised."""
    install("model", code, broken="MODULE:it")
    with pytest.raises(Declaration) as refused:
        discover([str(tmp_path)])
    assert "entry point broken = 'model_" in str(refused.value)
    assert says in str(refused.value)
    assert ("cannot be imported" in says) == (refused.value.__cause__ is not None)
