"""What must hold for the project as a whole: its words, its sizes, and that what it tells people to type exists."""

import ast
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import base

ROOT = Path(__file__).parent.parent
CODE = sorted(path for folder in ("base", "runtime") for path in (ROOT / folder).rglob("*.py"))
SOURCES = sorted(
    path
    for path in (*CODE, *(ROOT / "tests").rglob("*.py"), *(ROOT / "models").glob("*/*/*.py"), *(ROOT / "scripts").iterdir())
    if path.is_file() and path.suffix != ".pyc"
)

FORBIDDEN = {
    "gateway": "front door",
    "master": "front door or supervisor",
    "manager": "supervisor, or a noun for what it owns",
    "arbiter": "supervisor",
    "replica": "worker",
    "actor": "worker",
    "backend": "worker",
    "deployment": "release",
    "bundle": "release",
    "arena": "segment or slot",
    "bus": "channel",
    "cleanup": "drain or close",
    "helper": "a noun for what it does",
    "helpers": "a noun for what they do",
    "util": "a noun for what it does",
    "utils": "a noun for what they do",
}

STANDARD_TERMS = {("runtime/build/wheel.py", "backend")}
"""Words of other people's standards, where they are meant: a build backend is PEP 517's."""

FOUND_ON_PATH = {"cd", "cp", "curl", "docker", "export", "git", "mkdir", "mv", "poetry", "python", "python3", "rm"}
"""What a reader's machine has, or what the README tells to install."""


def names(tree: ast.AST) -> Iterator[str]:
    """Every name that the code itself gives: classes, functions, arguments, variables, fields."""
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.arg(arg=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name


def words(name: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def commands(markdown: str) -> list[str]:
    """The commands in the shell blocks, continuation lines joined, prompts and comments left out."""
    blocks = re.findall(r"```(?:sh|bash|shell|console)\n(.*?)```", markdown, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.strip().removeprefix("$ ") for line in lines if line.strip() and not line.strip().startswith(("#", "{", "["))]


def test_code_calls_things_by_the_words_of_the_vocabulary():
    """No name in base or runtime uses a synonym that the vocabulary rules out."""
    given = {(str(path.relative_to(ROOT)), name) for path in CODE for name in {*names(ast.parse(path.read_text())), path.stem}}
    assert given
    wrong = [f"{path}: {name}: say {FORBIDDEN[word]}" for path, name in given - STANDARD_TERMS for word in words(name) if word in FORBIDDEN]
    assert not wrong


def test_names_are_taken_apart_into_words():
    """The vocabulary's check sees words in every way of writing names."""
    assert words("HTTPGateway_bus2Job") == ["http", "gateway", "bus", "job"]
    assert set(names(ast.parse("class A:\n def b(self, c): self.d = e = c"))) == {"A", "b", "self", "c", "d", "e"}


def test_no_source_file_is_over_400_lines():
    """A file that long owns more than one thing."""
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in SOURCES}
    assert lengths
    assert not {name: length for name, length in lengths.items() if length > 400}


def test_versions_agree():
    """The version stands in two places, which agree, the changelog knows it or calls it unreleased, and the README names its base."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert base.__version__ == version
    heading = "Unreleased" if ".dev" in version else version
    assert re.findall(r"^## \[(.*?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0] == heading
    assert f"PEX_PATH=dist/base-{version}.pex" in (ROOT / "README.md").read_text()


def test_the_readme_is_short():
    """The README stays below 200 lines."""
    assert len((ROOT / "README.md").read_text().splitlines()) < 200


def test_what_the_readme_tells_people_to_type_exists():
    """Each command of the README is a file of the project that can be run, a subcommand of pexdock, or a tool that it names."""
    unknown = [command for command in commands((ROOT / "README.md").read_text()) if not is_known(command)]
    assert not unknown


def test_every_command_and_option_in_the_documentation_exists():
    """Of pexdock, on each page for people."""
    told = [
        (page.name, line)
        for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
        for line in re.findall(r"^(?:\.venv/bin/)?(pexdock [a-z].*)$", page.read_text(), re.MULTILINE)
    ]
    assert len(told) > 20
    assert not [(page, line) for page, line in told if not is_subcommand(line.split()[1:]) or unknown_options(line)]


def unknown_options(line: str) -> set[str]:
    """Those that the command has not."""
    from runtime.cli.main import main  # noqa: PLC0415 - as below

    command, words = main, line.partition("#")[0].split()[1:]
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    known = {option for parameter in command.get_params(command.make_context("", [], resilient_parsing=True)) for option in parameter.opts}
    return {word.partition("=")[0] for word in words if word.startswith("-")} - known


def test_an_invented_option_is_not_known():
    """The check above can fail."""
    assert unknown_options("pexdock build model x --carry y --nothing # --else") == {"--nothing"}
    assert not unknown_options("pexdock logs -f iris")


def is_known(command: str) -> bool:
    first, *rest = re.sub(r"^(?:[A-Z_]+=\S+ +)+", "", command).split()
    if first == "pexdock":
        return is_subcommand(rest)
    if "dist/" in first:
        return first.endswith(".pex")  # made by the build
    if "/" in first:
        return os.access(ROOT / first, os.X_OK)
    return first in FOUND_ON_PATH


def is_subcommand(arguments: list[str]) -> bool:
    from runtime.cli.main import main  # noqa: PLC0415 - the other claims hold without the command

    command = main
    for argument in arguments:
        subcommands = getattr(command, "commands", None)
        if subcommands is None or argument.startswith("-"):
            return True
        if argument not in subcommands:
            return False
        command = subcommands[argument]
    return True


def test_an_invented_command_is_not_known():
    """The README's check can fail."""
    assert is_known("./scripts/test -x")
    assert is_known("PEX_PATH=dist/base-0.1.0.pex ./dist/iris-0.1.0.pex")
    assert not is_known("./scripts/no-such-script")
    assert not is_known("no-such-tool --help")
    assert commands("```sh\n# why\n$ curl a \\\n  b\n```\n```python\nx\n```") == ["curl a    b"]


def test_scripts_can_be_run():
    """Every script has a first line that names its interpreter, and is executable."""
    for path in (*(ROOT / "scripts").iterdir(), ROOT / "entrypoint.sh", ROOT / ".ci" / "run"):
        if path.is_file() and path.suffix != ".py":
            assert path.read_bytes().startswith(b"#!"), path
            assert os.access(path, os.X_OK), path
