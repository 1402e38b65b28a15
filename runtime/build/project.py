"""A model's project: what its table [tool.pexdock] says, and which of its files its wheel leaves out."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import msgspec
from packaging.utils import canonicalize_name

from runtime.build.tool import BuildFailed
from runtime.build.wheel import read_pyproject

_CODE_SUFFIXES = (".py", ".pyi", ".pyc", ".pyx", ".pxd", ".c", ".h", ".cpp")
"""Files that a package may do without: sources that are compiled, and modules that its author leaves out on purpose."""

_HOW_TO_INCLUDE = {
    "poetry": "list them under `include` in [tool.poetry]",
    "hatchling": "list them under `artifacts` in [tool.hatch.build.targets.wheel]",
    "setuptools": "list them in [tool.setuptools.package-data]",
}


class ModelOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Holds what the author decided about a model's pex.

    Attributes:
        carry: Names of distributions that the pex carries although base has them.
        exclude: Names of distributions that it does without although something requires them.
        lock: The lock to read, relative to the project; None for the usual one.
        warn_above_mb: Size of the pex's packages, in MB, above which the build warns. Most models take little more than 1 MB.
    """

    carry: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    lock: str | None = None
    warn_above_mb: float = 50

    @classmethod
    def of(cls, project: Path, carry: Sequence[str] = ()) -> ModelOptions:
        """Returns the options in a project's [tool.pexdock], with further names to carry.

        Raises:
            BuildFailed: The table has unknown keys or values of another type.
        """
        table = read_pyproject(project).get("tool", {}).get("pexdock", {})
        try:
            found = msgspec.convert(table, cls)
        except msgspec.ValidationError as exc:
            raise BuildFailed(f"[tool.pexdock] in {project / 'pyproject.toml'} is invalid: {exc}") from exc
        return msgspec.structs.replace(found, carry=_canonical([*found.carry, *carry]), exclude=_canonical(found.exclude))


def _canonical(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted({str(canonicalize_name(name)) for name in names}))


def left_out_warning(project: Path, packed: Collection[str]) -> Iterator[str]:
    """Yields a warning that names the files beside a wheel's modules that the wheel leaves out, and why.

    Args:
        project: The folder of the project.
        packed: Names of the files in the wheel.
    """
    left_out = sorted(_left_out(project, packed))
    if left_out:
        ignored = _ignored_by_git(project, left_out)
        names = ", ".join(f"{name} (ignored by git)" if name in ignored else name for name in left_out[:10])
        more = f" and {len(left_out) - 10} more" if len(left_out) > 10 else ""
        builder = read_pyproject(project).get("build-system", {}).get("build-backend", "setuptools.build_meta")
        how = _HOW_TO_INCLUDE.get(builder.partition(".")[0], f"see the documentation of {builder}")
        yield f"the wheel leaves out {names}{more}; if the model needs them, {how}"


def _left_out(project: Path, packed: Collection[str]) -> Iterator[str]:
    """Yields paths, relative to the project, of files in folders of the wheel's packages that the wheel does not have."""
    packages = {name.partition("/")[0] for name in packed if "/" in name and not name.partition("/")[0].endswith((".dist-info", ".data"))}
    for package in sorted(packages):
        for root in (project / "src", project):
            if (root / package).is_dir():
                for path in _files(root / package):
                    if str(path.relative_to(root)) not in packed:
                        yield str(path.relative_to(project))
                break


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__" and not name.startswith(".")]
        yield from (Path(parent, name) for name in names if not name.startswith(".") and not name.endswith(_CODE_SUFFIXES))


def _ignored_by_git(project: Path, names: Sequence[str]) -> set[str]:
    """Returns those of the names that git ignores; none without git or outside of a repository."""
    command = ["git", "-C", str(project), "check-ignore", "-z", "--stdin"]
    try:
        done = subprocess.run(command, input="\0".join(names).encode(), capture_output=True, check=False)
    except OSError:
        return set()
    return set(os.fsdecode(done.stdout).split("\0")) - {""}
