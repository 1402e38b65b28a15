"""Pexes made in milliseconds: zips as pex writes them, around a handful of lines. What pex itself makes is used in tests/pex."""

import json
import sysconfig
import textwrap
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

GOOD = """
    import polars as pl
    from base.service import endpoint

    @endpoint(path="/{name}/{{key}}")
    def predict(records_df: pl.DataFrame):
        return records_df["x"] * {factor}
"""


def write_tiny(
    path: Path, name: str = "tiny", version: str = "0.1.0", module: str = GOOD, factor: int = 2, entry: str | None = "predict"
) -> Path:
    """A pex of the model `name` whose one module has this source. It appears under `path` at once, as a drop should."""
    files = {
        f"{name}_model.py": textwrap.dedent(module).format(name=name, factor=factor),
        f"{name}-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{name}-{version}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{name}-{version}.dist-info/RECORD": "",
    }
    if entry:
        files[f"{name}-{version}.dist-info/entry_points.txt"] = f"[pexdock.endpoints]\npredict = {name}_model:{entry}\n"
    wheel = f"{name}-{version}-py3-none-any.whl"
    info = {"distributions": {wheel: "0" * 64}, "interpreter_constraints": [], "build_properties": {}, "deps_are_wheel_files": False}
    return _write(path, info, {f".deps/{wheel}/{inner}": content for inner, content in files.items()})


def write_linked_base(path: Path, version: str = "0.1.0") -> Path:
    """A base that holds no packages but leads to those of this tree and of the interpreter that runs the tests: unpacked in an instant."""
    wheel = f"pexdock-{version}-py3-none-any.whl"
    info = {"distributions": {wheel: "0" * 64}, "interpreter_constraints": [], "build_properties": {}, "deps_are_wheel_files": False}
    files = {
        f"pexdock-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: pexdock\nVersion: {version}\n",
        "linked.pth": f"{ROOT}\n{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n",
    }
    return _write(path, info, {f".deps/{wheel}/{inner}": content for inner, content in files.items()} | {".bootstrap/empty.py": ""})


def _write(path: Path, info: dict, files: dict[str, str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.part")
    with zipfile.ZipFile(aside, "w") as archive:
        archive.writestr("PEX-INFO", json.dumps(info))
        for name, content in files.items():
            archive.writestr(name, content)
    aside.replace(path)
    return path
