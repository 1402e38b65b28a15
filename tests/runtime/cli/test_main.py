"""The command: its help, errors and exit codes."""

import json
import subprocess
import sys
import tempfile

import pytest
from click.testing import CliRunner

from runtime.cli.main import main
from runtime.settings import RENAMED, Settings
from tinypex import ROOT, SDK_VERSION, write_linked_base, write_tiny


def _flag(setting: str) -> str:
    return f"--{setting.replace('_', '-')}"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Returns a function that runs the command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    with tempfile.TemporaryDirectory() as folder:  # shorter than pytest's path, since sockets are created in it
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield lambda *words: CliRunner().invoke(main, [str(word) for word in words])


def test_every_setting_is_an_option_of_serve_with_its_default(run):
    """It has no other options."""
    text = run("serve", "--help").output
    for name, field in Settings.model_fields.items():
        assert f"{_flag(name)} " in text
        assert " ".join(field.description.split()[:3]) in text
    assert "[default: 8080]" in text
    assert sum(line.startswith("  -") for line in text.splitlines()) == len(Settings.model_fields) + len(["--config", "--help"])


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["serve", "--prot", "1"], "'--prot'"),
        (["serve", "--port", "x"], "--port is 'x'"),
        (["serve", "--config", "nowhere.toml"], "settings file nowhere.toml does not exist"),
        (["sreve"], "'sreve'"),
        *((["serve", _flag(old), "1"], f"{_flag(old)} has been renamed: use {_flag(new)}") for old, new in RENAMED.items()),
    ],
)
def test_a_wrong_command_line_ends_with_code_2_and_one_line(run, words, error):
    """It prints no traceback and starts nothing."""
    result = run(*words)
    assert result.exit_code == 2
    assert error in result.output.splitlines()[-1]
    assert "Traceback" not in result.output


def test_an_unknown_variable_ends_every_command_that_reads_settings(run, monkeypatch):
    """It ends a command that would not have used it, too."""
    monkeypatch.setenv("PEXDOCK_DIST_PTH", "x")
    for words in (["serve"], ["models"]):
        result = run(*words)
        assert result.exit_code == 2
        assert "did you mean PEXDOCK_DIST_PATH?" in result.output


def test_models_reads_the_settings_file(run, tmp_path):
    """Otherwise it would read another dist/ than the supervisor."""
    (tmp_path / "pexdock.toml").write_text("dist_path = 'elsewhere'\n")
    write_tiny(tmp_path / "elsewhere" / "tiny.pex", "tiny")
    assert json.loads(run("models", "--json").output)["releases"][0]["name"] == "tiny"
    assert "tiny.pex  tiny" in run("models").output


def test_check_prints_what_a_pex_is_and_whether_it_can_be_served(run, tmp_path):
    """The base is the one in dist/ that fits, or that of --base."""
    base = write_linked_base(tmp_path / "dist" / "base.pex")
    model = write_tiny(tmp_path / "tiny.pex", "tiny", built_on=SDK_VERSION)
    result = run("check", model)
    assert result.exit_code == 0
    assert "tiny.pex: model tiny 0.1.0" in result.output
    assert "endpoints      predict = tiny_model:predict" in result.output
    assert f"base           {SDK_VERSION}, {base}" in result.output
    assert f"base.pex: base pexdock {SDK_VERSION}" in run("check", base).output
    assert run("check", model, "--base", base).exit_code == 0
    assert "not a base: name a base" in run("check", model, "--base", model).output


def test_check_ends_with_code_1_and_the_reason_where_a_pex_is_refused(run, tmp_path):
    """The reason is an invalid file, or a missing base."""
    (tmp_path / "empty.pex").touch()
    write_tiny(tmp_path / "tiny.pex", "tiny", built_on="7.7.7")
    for file, reason in (
        ("empty.pex", "the file is empty"),
        ("tiny.pex", "base-7.7.7.pex, which is missing"),
        ("nowhere.pex", "nowhere.pex"),
    ):
        result = run("check", file)
        assert result.exit_code == 1
        assert reason in result.output
        assert "Traceback" not in result.output


def test_a_model_is_not_built_without_a_base(run, tmp_path):
    """The message names the command that makes one."""
    (tmp_path / "project").mkdir()
    result = run("build", "model", "project")
    assert result.exit_code == 1
    assert "pexdock build base" in result.output


def test_help_and_version_need_nothing_heavy():
    """People ask for help while something is broken, so it must be fast and robust."""
    script = "import sys; sys.argv[1:] = ['--help']\n"
    script += "from runtime.cli.main import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True)
    assert not {"pydantic", "polars", "pyarrow", "uvloop", "asyncio", "uvicorn"} & set(done.stderr.split())
    version = subprocess.run([sys.executable, "-m", "runtime", "--version"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    assert version == f"pexdock {SDK_VERSION}\n"
