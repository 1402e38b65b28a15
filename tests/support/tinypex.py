"""Pexes made in milliseconds: zips in pex's layout, around a few lines of code. Pexes that pex itself makes are used in tests/pex."""

import json
import re
import sysconfig
import textwrap
import tomllib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import base
from base.ipc.control import WIRE_VERSION

ROOT = Path(__file__).parent.parent.parent

SDK_VERSION = base.__version__

TIMES = """
    import polars as pl
    import base.service as svc
    from base.schema import Schema

    class Row(Schema):
        x: pl.Int64

    @svc.endpoint(path="PATH")
    def predict(records_df: Row.DataFrame):
        return records_df["x"] * FACTOR
"""


HELD = """
    import pathlib, threading, time
    MARK = pathlib.Path("FOLDER")
    MARK.joinpath("NAME").touch()
    thread = threading.Thread(target=time.sleep, args=(3600,), daemon=True)
    thread.start()
    while not MARK.joinpath("go-NAME").exists():
        time.sleep(0.01)
"""


def times(factor: int, path: str) -> str:
    """Returns the module of a model that multiplies `x`."""
    return TIMES.replace("FACTOR", str(factor)).replace("PATH", path)


def held(folder: Path, name: str) -> str:
    """Returns the module of a model that reports its import, starts a thread, and waits for a file before it goes on."""
    return HELD.replace("FOLDER", str(folder)).replace("NAME", name) + times(2, f"/{name}")


def write_tiny(
    path: Path,
    name: str,
    version: str = "0.1.0",
    module: str = "",
    *,
    endpoint: bool = True,
    endpoints: Sequence[str] = ("predict",),
    built_on: str = "",
    wire: int = WIRE_VERSION,
) -> Path:
    """Writes a pex of the model `name`, whose one module has this source; by default it doubles at `/<name>`. It appears atomically.

    `built_on` stamps it with a base version; without it, the pex is as if built by hand.
    """
    files = {f"{name}_model.py": textwrap.dedent(module or times(2, f"/{name}"))}
    if endpoint:
        lines = ["[pexdock.endpoints]", *(f"{each} = {name}_model:{each}" for each in endpoints), ""]
        files[f"{name}-{version}.dist-info/entry_points.txt"] = "\n".join(lines)
    stamp = {
        "kind": "model",
        "name": name,
        "version": version,
        "wire": wire,
        "fingerprint": "",
        "base": {"version": built_on, "sha256": ""},
    }
    return _write(path, name, version, files, {"pexdock": stamp} if built_on else {})


def write_linked_base(path: Path, version: str = SDK_VERSION, more: Mapping[str, str] = {}) -> Path:
    """Writes a base without packages that leads to those of this tree and of the tests' interpreter, and so is unpacked in an instant.

    `more` are files of its own, which are found first.
    """
    links = [str(ROOT), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    return _write(path, "pexdock", version, {"linked.pth": "\n".join(links) + "\n", **more}, {})


def write_copied_base(
    path: Path, version: str = "", *, tree: Path = ROOT, wire: int | None = None, says_wire: int | None = None, more: str = ""
) -> Path:
    """Writes a base as a checkout would: the code of `tree`, perhaps under another version and with another wire version.

    Its packages are those of the tests' interpreter. `says_wire` replaces the wire version of its stamp, and `more` is
    appended to the code of `base`.
    """
    files = {}
    for source in [*(tree / "base").rglob("*"), *(tree / "runtime").rglob("*")]:
        if source.is_file() and "__pycache__" not in source.parts:
            files[str(source.relative_to(tree))] = source.read_text()
    own_version = tomllib.loads((tree / "pyproject.toml").read_text())["project"]["version"]
    files["base/__init__.py"] += f'\n__version__ = "{version or own_version}"\n{more}'
    control, found = files["base/ipc/control.py"], re.compile(r"^WIRE_VERSION = (\d+)$", re.MULTILINE)
    (own_wire,) = found.findall(control)
    speaks = int(own_wire) if wire is None else wire
    files["base/ipc/control.py"] = found.sub(f"WIRE_VERSION = {speaks}", control)
    files["linked.pth"] = "\n".join([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]) + "\n"
    stamp = {"kind": "base", "name": "pexdock", "version": version or own_version, "wire": says_wire or speaks, "fingerprint": ""}
    return _write(path, "pexdock", version or own_version, files, {"pexdock": stamp})


def _write(path: Path, name: str, version: str, files: dict[str, str], properties: dict) -> Path:
    wheel = f"{name}-{version}-py3-none-any.whl"
    metadata = {f"{name}-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"}
    info = {"distributions": {wheel: "0" * 64}, "build_properties": properties}
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.part")
    with zipfile.ZipFile(aside, "w") as archive:
        archive.writestr("PEX-INFO", json.dumps(info))
        archive.writestr(".bootstrap/pex/__init__.py", "")
        for inner, content in (files | metadata).items():
            archive.writestr(f".deps/{wheel}/{inner}", content)
    aside.replace(path)
    return path
