"""Pexes written byte by byte in pex's layout, so that each can be wrong in one way."""

import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

from base.ipc.control import WIRE_VERSION

STAMP = {"wire": WIRE_VERSION, "fingerprint": "0" * 32}


@dataclass
class Wheel:
    """One distribution: its metadata, and other files."""

    name: str
    version: str = "1.0"
    requires: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    tag: str = "py3-none-any"
    metadata: str = ""

    @property
    def file_name(self) -> str:
        return f"{self.name.replace('-', '_')}-{self.version}-{self.tag}.whl"

    def members(self) -> dict[str, str]:
        folder = f"{self.name.replace('-', '_')}-{self.version}.dist-info"
        lines = [f"Name: {self.name}", f"Version: {self.version}", *(f"Requires-Dist: {each}" for each in self.requires)]
        found = {f"{folder}/METADATA": self.metadata or "Metadata-Version: 2.1\n" + "\n".join(lines) + "\n\nWhat it does.\n"}
        if self.endpoints:
            found[f"{folder}/entry_points.txt"] = "[pexdock.endpoints]\n" + "\n".join(self.endpoints) + "\n"
        return {**found, **self.files}


def model(name="iris", **kwargs):
    """Returns the distribution of a model with one endpoint."""
    module = name.replace("-", "_")
    return Wheel(name, **{"endpoints": (f"predict = {module}:predict",), "files": {f"{module}/__init__.py": ""}, **kwargs})


def sdk(version="0.1.0", **kwargs):
    """Returns the distribution that makes a pex a base."""
    return Wheel("pexdock", version, **{"files": {"base/__init__.py": "", "runtime/__init__.py": ""}, **kwargs})


def write_pex(path: Path, *wheels: Wheel, stamp=None, constraints=(), sources=None, info=None, nested=False) -> Path:
    """Writes a pex of these wheels. `nested` packs wheels as files, as --no-pre-install-wheels does."""
    described = {
        "distributions": {wheel.file_name: "0" * 64 for wheel in wheels},
        "interpreter_constraints": list(constraints),
        "build_properties": {"pex_version": "2.0", **({"pexdock": stamp} if stamp else {})},
        "deps_are_wheel_files": nested,
        **(info or {}),
    }
    with path.open("wb") as file:
        file.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("PEX-INFO", json.dumps(described))
            archive.writestr("__main__.py", "raise SystemExit('a test ran a pex that it should only read')")
            archive.writestr(".bootstrap/pex/__init__.py", "")
            for name, content in (sources or {}).items():
                archive.writestr(name, content)
            for wheel in wheels:
                _write_wheel(archive, wheel, nested)
    return path


def _write_wheel(archive, wheel, nested):
    if not nested:
        for name, content in wheel.members().items():
            archive.writestr(f".deps/{wheel.file_name}/{name}", content)
        return
    with archive.open(f".deps/{wheel.file_name}", "w") as file, zipfile.ZipFile(file, "w") as inner:
        for name, content in wheel.members().items():
            inner.writestr(name, content)


def model_stamp(name="iris", version="1.0", base="0.1.0", sha256="a" * 64, **kwargs):
    """Returns what `pexdock build model` writes."""
    return {
        **STAMP,
        "kind": "model",
        "name": name,
        "version": version,
        "base": {"version": base, "sha256": sha256},
        "provided": {},
        **kwargs,
    }


def base_stamp(version="0.1.0", **kwargs):
    """Returns what `pexdock build base` writes."""
    return {**STAMP, "kind": "base", "name": "pexdock", "version": version, **kwargs}
