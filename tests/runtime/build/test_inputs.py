"""Tests of what a build is made from, and how its tools run."""

import os
import shutil

import pytest

from runtime.build import build_cache
from runtime.build.fingerprint import base_fingerprint, sources_fingerprint
from runtime.build.project import ModelOptions
from runtime.build.tool import BuildFailed, Steps, run_tool


def model_fingerprint(folder, base, **options):
    return sources_fingerprint(folder, base, ModelOptions(**options), None)


def project(folder):
    (folder / "iris").mkdir(parents=True)
    (folder / "pyproject.toml").write_text("[project]\nname = 'iris'\n")
    (folder / "iris/__init__.py").write_text("x = 1\n")
    return folder


def test_the_fingerprint_of_a_model_knows_no_paths(tmp_path):
    """Two checkouts of the same content share builds."""
    first, second = project(tmp_path / "one"), tmp_path / "deeper" / "two"
    shutil.copytree(first, second)
    assert model_fingerprint(first, "a") == model_fingerprint(second, "a")


def test_the_fingerprint_of_a_model_changes_with_each_input(tmp_path):
    """Sources, their mode, a new file in whatever folder of a package, the base, what is carried: each makes another file."""
    folder = project(tmp_path / "iris")
    seen = [model_fingerprint(folder, "a"), model_fingerprint(folder, "b")]
    seen += [model_fingerprint(folder, "a", **{key: ("numpy",)}) for key in ("carry", "exclude")]
    (folder / "iris/__init__.py").write_text("x = 2\n")
    seen.append(model_fingerprint(folder, "a"))
    (folder / "iris/__init__.py").chmod(0o755)
    seen.append(model_fingerprint(folder, "a"))
    for name in ("iris/data.csv", "iris/build/weights.bin", "iris/artifacts/words.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("1,2")
        seen.append(model_fingerprint(folder, "a"))
    assert len(set(seen)) == len(seen)


def test_files_that_runs_and_tests_leave_change_no_fingerprint(tmp_path):
    """Otherwise every start after a run would rebuild."""
    folder = project(tmp_path / "iris")
    before = model_fingerprint(folder, "a")
    for name in ("iris/__pycache__/x.pyc", ".venv/x", ".pytest_cache/x", "dist/x.whl", "iris.egg-info/x"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("")
    assert model_fingerprint(folder, "a") == before


def test_the_fingerprint_of_base_depends_on_what_reaches_the_wheel(tmp_path):
    """A new rule of the linter or a new pytest rebuilds no base; a new dependency or pin does."""
    for name in ("base", "runtime"):
        (tmp_path / name).mkdir()
    package = "[[package]]\nname = '{}'\nversion = '{}'\ngroups = ['{}']\nfiles = []\n"

    def fingerprint(project="", tools="", *packages):
        (tmp_path / "pyproject.toml").write_text(f"[project]\nname = 'pexdock'\n{project}\n{tools}")
        (tmp_path / "poetry.lock").write_text("".join(package.format(*each) for each in packages))
        return base_fingerprint(tmp_path)

    numpy = ("numpy", "2", "main")
    same = [
        fingerprint("", "", numpy),
        fingerprint("", "[tool.ruff]\nline-length = 9", numpy),
        fingerprint("", "[tool.poetry.group.dev.dependencies]\npytest = '*'", numpy, ("pytest", "9", "dev")),
    ]
    others = [
        fingerprint("", "", ("numpy", "3", "main")),
        fingerprint("dependencies = ['numpy']", "", numpy),
        fingerprint("", "[tool.poetry]\npackages = []", numpy),
    ]
    assert len(set(same)) == 1
    assert len({*same, *others}) == 4


def test_the_failure_of_a_tool_quotes_its_last_lines():
    """The message has the description, the exit code and the last lines, with and without a reader of lines."""
    for each_line in (None, lambda _line: None):
        with pytest.raises(BuildFailed, match=r"cooking failed \(exit code 3\):\n    no salt"):
            run_tool(["sh", "-c", "echo no salt >&2; exit 3"], "cooking", each_line=each_line)


def test_tools_run_without_variables_that_steer_other_programs(monkeypatch):
    """A build does not depend on the shell that it is started from; indexes and proxies stay the user's."""
    monkeypatch.setenv("PEX_PATH", "x")
    monkeypatch.setenv("PYTHONPATH", "x")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    monkeypatch.setenv("PIP_INDEX_URL", "kept")
    said = run_tool(["env"], "env").splitlines()
    assert "PIP_INDEX_URL=kept" in said
    assert not [line for line in said if line.startswith(("PEX_PATH=", "PYTHONPATH=", "SOURCE_DATE_EPOCH="))]


def test_steps_are_numbered_and_timed():
    """Each line has the number of the step, its progress and its duration."""
    lines = []
    steps = Steps(lines.append, 2)
    with steps.step("weighing") as how_far:
        how_far("1 of 3")
    assert lines[0] == "[1/2] weighing"
    assert lines[1] == "[1/2] weighing: 1 of 3, 0 s"
    assert lines[2].startswith("[1/2] weighing: done in 0.")


def test_only_the_newest_are_kept(tmp_path):
    """The temporary folder of a build that was killed a day ago is removed, and that of a running build is not."""
    for number in range(4):
        (tmp_path / f"{number}.pex").write_text("")
        os.utime(tmp_path / f"{number}.pex", (number, number))
    (tmp_path / ".part-old").mkdir()
    os.utime(tmp_path / ".part-old", (0, 0))
    with build_cache.temporary_folder(tmp_path) as place:
        build_cache.prune_to_newest(tmp_path, "*.pex", 2)
        assert sorted(entry.name for entry in tmp_path.iterdir()) == [place.name, "2.pex", "3.pex"]
    assert not place.exists()
