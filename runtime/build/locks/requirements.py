"""Reads requirements files with hashes, as `pip-compile`, `uv pip compile` and `poetry export` write them."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Container, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename

from runtime.build.locks.pin import Pin
from runtime.build.tool import BuildFailed
from runtime.build.wheel import project_name

_COMMENT = re.compile(r"(^|\s)#.*$", re.MULTILINE)
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_LOCATION = re.compile(r"(--index-url|--extra-index-url|--find-links|--trusted-host|-i|-f)(?:\s+|=)(\S+)|--no-index")
_PATH = re.compile(r"\.{0,2}/|.*\.(whl|tar\.gz|zip)\s*(;|$)")
_EGG = re.compile(r"#.*\begg=([\w.-]+)")


def read_requirements(file: Path) -> Iterator[Pin]:
    """Yields the pins of a requirements file, and of those that it includes, whose markers hold here.

    Raises:
        BuildFailed: A line is invalid, or pins no version.
    """
    lines = list(_lines(file))
    options = tuple(sorted({_location(match, parent) for parent, line in lines for match in [_LOCATION.fullmatch(line)] if match}))
    for parent, line in lines:
        editable = re.match(r"(?:-e|--editable)[\s=]+(.+)", line)
        if line.startswith("-") and not editable:
            continue  # an option that only concerns the environment in which pip installs
        pin = _pin(editable[1] if editable else line, parent, options)
        if pin is not None:
            yield pin


def has_hashes(file: Path) -> bool:
    """Returns whether a requirements file is a lock."""
    return any("--hash" in line for _, line in _lines(file))


def loose_constraints(file: Path, but: Container[str]) -> list[str]:
    """Returns the versions that a requirements file without hashes asks for, except for names in `but`; empty if there is no such file."""
    found = []
    for _, line in _lines(file) if file.is_file() else ():
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue  # an option, a path or an address
        name = canonicalize_name(requirement.name)
        if requirement.specifier and name not in but:
            found.append(f"{name}{requirement.specifier}{f'; {requirement.marker}' if requirement.marker else ''}")
    return found


def _lines(file: Path) -> Iterator[tuple[Path, str]]:
    """Yields each line of a file and of those that it includes, without comments, with the folder to which its paths are relative."""
    text = _COMMENT.sub("", re.sub(r"\\\r?\n", " ", file.read_text()))
    for line in filter(None, map(str.strip, text.splitlines())):
        expanded = _VARIABLE.sub(lambda match: os.environ.get(match[1], match[0]), line)
        included = re.match(r"(?:-r|--requirement)[\s=]*(\S+)", expanded)
        if included:
            yield from _lines(file.parent / included[1])
        else:
            yield file.parent, expanded


def _location(match: re.Match[str], parent: Path) -> str:
    option, value = match[1], match[2]
    if value is None:
        return match[0]
    local = option in {"-f", "--find-links"} and "://" not in value
    return f"{option} {(parent / value).resolve() if local else value}"


def _pin(line: str, parent: Path, options: tuple[str, ...]) -> Pin | None:
    """Returns the pin of a line; None if its marker does not hold."""
    what, *rest = re.split(r"\s--(?=hash|config-settings|global-option)", line)
    hashes = tuple(sorted(word.removeprefix("hash=") for text in rest for word in shlex.split(text) if word.startswith("hash=")))
    what = what.strip()
    if " @ " not in what and ("://" in what or _PATH.match(what)):
        what = _named(what, parent)
    try:
        requirement = Requirement(what)
    except InvalidRequirement as exc:
        raise BuildFailed(f"{parent}: the line {line!r} of the requirements is invalid: {exc}") from exc
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
        return None
    name = str(canonicalize_name(requirement.name))
    if requirement.url:
        return Pin(name, "", hashes, requirement.url)
    exact = [
        specifier.version for specifier in requirement.specifier if specifier.operator in {"==", "==="} and "*" not in specifier.version
    ]
    if len(exact) != 1 or not hashes:
        raise BuildFailed(f"the requirements in {parent} pin no version of {name} with its hashes: {line!r}; compile them with hashes")
    return Pin(name, exact[0], hashes, "", options)


def _named(what: str, parent: Path) -> str:
    """Returns the requirement `name @ address` for an address or a path without a name."""
    address, semicolon, marker = what.partition(";")
    address = address.strip()
    if "://" not in address:
        address = (parent / address).resolve().as_uri()
    path = Path(unquote(urlsplit(address).path))
    if egg := _EGG.search(address):
        name = egg[1]
    elif path.suffix == ".whl":
        name = parse_wheel_filename(path.name)[0]
    elif path.name.endswith((".tar.gz", ".zip")):
        name = parse_sdist_filename(path.name)[0]
    else:
        name = project_name(path) if address.startswith("file:") else ""
    if not name:
        raise BuildFailed(f"the requirements in {parent} do not say what {address} is; write `NAME @ {address}`")
    return f"{name} @ {address}{f' {semicolon}{marker}' if semicolon else ''}"
