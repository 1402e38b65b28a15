"""Finds the lock of a project, and makes one on the spot for a project that has none."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from packaging.requirements import Requirement

from runtime.build import tool
from runtime.build.locks.pin import Pin
from runtime.build.locks.poetry import poetry_folders, read_poetry
from runtime.build.locks.pylock import read_pylock
from runtime.build.locks.requirements import has_hashes, read_requirements
from runtime.build.locks.uv import read_uv
from runtime.build.tool import BuildFailed
from runtime.build.wheel import read_pyproject

_T = TypeVar("_T")


@dataclass(frozen=True)
class Lock:
    """The lock of a project.

    Attributes:
        file: Its file.
        command: The command that makes it.
        read: Yields its pins for this interpreter and machine.
        read_folders: Yields the folders that its pins are built from; quick.
    """

    file: Path
    command: str
    read: Callable[[Path], Iterable[Pin]]
    read_folders: Callable[[Path], Iterable[Path]]

    def pins(self) -> dict[str, Pin]:
        """Returns the pins by name.

        Raises:
            BuildFailed: The lock is invalid, or does not say which of several versions this machine needs.
        """
        found: dict[str, Pin] = {}
        for pin in self._list(self.read):
            if found.setdefault(pin.name, pin) != pin:
                raise BuildFailed(f"{self.file} pins {pin.name} {found[pin.name].version} and {pin.version}, both for this machine")
        return found

    def folders(self) -> list[Path]:
        """Returns the folders that its pins are built from.

        Raises:
            BuildFailed: The lock is invalid.
        """
        return self._list(self.read_folders)

    def _list(self, read: Callable[[Path], Iterable[_T]]) -> list[_T]:
        try:
            return list(read(self.file))
        except (KeyError, TypeError, ValueError) as exc:
            raise BuildFailed(f"{self.file} is invalid: {exc!r}; run `{self.command}` again") from exc


def find_lock(project: Path, named: str | None = None) -> Lock | None:
    """Returns the lock of a project, or None if it has none.

    Args:
        project: The folder of the project.
        named: Its file, relative to the project; by default the first of `found_locks`.

    Raises:
        BuildFailed: The named file does not exist.
    """
    if named is not None:
        if not (project / named).is_file():
            raise BuildFailed(f"{project / named}, which [tool.pexdock] names as the lock, does not exist")
        return _lock(project / named)
    return next((_lock(file) for file in found_locks(project)), None)


def found_locks(project: Path) -> list[Path]:
    """Returns the locks that a project has, the one that counts first: Poetry's in a project with [tool.poetry], or else uv's."""
    has_poetry = "poetry" in read_pyproject(project).get("tool", {})
    poetry = project / "poetry.lock"
    files = [*([poetry] if has_poetry else []), _uv_lock(project), project / "pylock.toml", *([] if has_poetry else [poetry])]
    requirements = project / "requirements.txt"
    return [file for file in files if file.is_file()] + ([requirements] if requirements.is_file() and has_hashes(requirements) else [])


def _uv_lock(project: Path) -> Path:
    """Returns the path of the project's uv.lock, or of that of the workspace that it belongs to."""
    own = project / "uv.lock"
    if not own.is_file():
        for parent in project.resolve().parents:
            lock = parent / "uv.lock"
            if lock.is_file() and (parent / "pyproject.toml").is_file():
                return lock if "workspace" in read_pyproject(parent).get("tool", {}).get("uv", {}) else own
    return own


def _lock(file: Path) -> Lock:
    if file.name == "poetry.lock":
        return Lock(file, "poetry lock", read_poetry, poetry_folders)
    if file.name == "uv.lock":
        return Lock(file, "uv lock", read_uv, lambda lock: _folders(read_uv(lock)))
    if file.suffix == ".toml":
        return Lock(file, "pip lock", read_pylock, lambda lock: _folders(read_pylock(lock)))
    return Lock(file, "pip-compile --generate-hashes", read_requirements, lambda lock: _folders(read_requirements(lock)))


def _folders(pins: Iterable[Pin]) -> Iterator[Path]:
    return (pin.folder for pin in pins if pin.folder)


def lock_on_the_spot(requirements: Iterable[Requirement], constraints: Iterable[str]) -> dict[str, Pin]:
    """Returns pins of the newest versions that pip finds, for a project without a lock.

    Args:
        requirements: What the project needs and base lacks.
        constraints: Lines of the versions that base provides, so that what is chosen fits it.

    Raises:
        BuildFailed: pip finds no versions that fit together.
    """
    with tempfile.TemporaryDirectory(prefix="pexdock-build-") as folder:
        wanted, limits, lock = (Path(folder, name) for name in ("requirements.txt", "constraints.txt", "pylock.toml"))
        wanted.write_text("".join(f"{each}\n" for each in requirements))
        limits.write_text("".join(f"{line}\n" for line in constraints))
        command: list[str | Path] = [*tool.pip(), "lock", "--prefer-binary", "-r", wanted, "-c", limits, "-o", lock]
        tool.run_tool(command, f"locking {', '.join(map(str, requirements))}", cwd=Path(folder))
        return {pin.name: pin for pin in read_pylock(lock)}
