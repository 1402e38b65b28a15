"""`scripts/bench --lock`: pins the requirements.in of the peers in their requirements.txt, with hashes of wheels for Linux."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmark.pexdock import HERE, ROOT

PROJECT = """\
[project]
name = "peer"
version = "0"
requires-python = ">=3.11,<3.14"
dependencies = [{}]

[tool.poetry]
package-mode = false
"""

WHEEL = re.compile(r"-(py3|py2\.py3|cp31[123]|cp3\d+-abi3)(-.*)?-(any|(many)?linux.*_(x86_64|aarch64))\.whl$")


def lock() -> None:
    """Updates the requirements.txt of all peers."""
    for path in sorted(HERE.glob("peers/*/requirements.in")):
        lines = list(_pins(path))
        path.with_suffix(".txt").write_text("\n".join(lines) + "\n")
        print(f"{path.parent.name}: {sum('==' in line for line in lines)} packages", file=sys.stderr)


def _pins(path: Path) -> Iterator[str]:
    wanted = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    with tempfile.TemporaryDirectory(prefix="pexdock-bench-") as folder:
        (Path(folder) / "pyproject.toml").write_text(PROJECT.format(", ".join(f'"{line}"' for line in wanted)))
        poetry = [ROOT / ".venv/poetry/bin/poetry", "--no-interaction", "--quiet", "--directory", folder]
        subprocess.run([*poetry, "lock"], check=True, env=os.environ | {"POETRY_PYPI_MIRROR_URL": _index()})
        subprocess.run([*poetry, "export", "--without-hashes", "--output", f"{folder}/pins"], check=True)
        packages = tomllib.loads((Path(folder) / "poetry.lock").read_text())["package"]
        pins = (Path(folder) / "pins").read_text().splitlines()
    files = {(package["name"], package["version"]): package["files"] for package in packages}
    yield from (_with_hashes(pin, files) for pin in pins if "==" in pin)


def _with_hashes(pin: str, files: dict[tuple[str, str], list[dict[str, Any]]]) -> str:
    found = re.match(r"([\w.-]+)(?:\[.*\])?==([^ ;]+)", pin)
    assert found
    hashes = [f"    --hash={file['hash']}" for file in files[found[1], found[2]] if WHEEL.search(file["file"])]
    return " \\\n".join([pin, *hashes])


def _index() -> str:
    """Returns the index of pip, since Poetry would otherwise read more pages than pip does, and mirrors lack them."""
    configured = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"], check=False, capture_output=True, text=True
    )
    from pip._internal.models.index import PyPI  # noqa: PLC0415 - seldom needed

    return os.environ.get("PIP_INDEX_URL") or configured.stdout.strip() or PyPI.simple_url
