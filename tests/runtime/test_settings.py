"""Settings: precedence, bounds, and errors that name the source of a value."""

from pathlib import Path

import pytest

from base.ipc.metrics_report import MetricsConfig
from base.telemetry.emf import Emf
from runtime.settings import RENAMED, BadSetting, Settings, load


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default(monkeypatch):
    """Each source is in force once those above it are gone."""
    assert load().port == 8080
    Path("pexdock.toml").write_text("port = 1\n")
    assert load().port == 1
    monkeypatch.setenv("PEXDOCK_PORT", "2")
    assert load().port == 2
    assert load({"port": "3"}).port == 3
    assert load({"port": None}).port == 2


@pytest.mark.parametrize("name", Settings.model_fields)
def test_an_empty_variable_counts_as_unset(monkeypatch, name):
    """The start script reads it so, too. An empty path would be the current folder."""
    default = load()
    monkeypatch.setenv(f"PEXDOCK_{name.upper()}", "")
    assert load() == default
    Path("pexdock.toml").write_text("dist_path = 'models'\n")
    assert load().dist_path == Path("models").absolute()


def test_the_file_is_that_of_the_flag_else_of_the_variable_else_of_the_folder(monkeypatch):
    """--config wins over PEXDOCK_CONFIG, which wins over ./pexdock.toml."""
    for number, name in enumerate(["pexdock.toml", "variable.toml", "flag.toml"], start=1):
        Path(name).write_text(f"port = {number}\n")
    assert load().port == 1
    monkeypatch.setenv("PEXDOCK_CONFIG", "variable.toml")
    assert load().port == 2
    assert load(config=Path("flag.toml")).port == 3


def test_a_missing_file_is_an_error_if_it_was_named(monkeypatch):
    """Only the file in the current folder is optional."""
    monkeypatch.setenv("PEXDOCK_CONFIG", "nowhere.toml")
    with pytest.raises(BadSetting, match=r"settings file nowhere\.toml does not exist"):
        load()


@pytest.mark.parametrize(
    ("variable", "hint"),
    [("PEXDOCK_PROT", "did you mean PEXDOCK_PORT"), ("PEXDOCK_XYZZY", "serve --help"), ("pexdock_drain", "PEXDOCK_DRAIN_S")],
)
def test_an_unknown_variable_is_an_error_with_a_way_out(monkeypatch, variable, hint):
    """A misspelt limit must not silently be no limit."""
    monkeypatch.setenv(variable, "1")
    with pytest.raises(BadSetting, match=variable) as caught:
        load()
    assert hint in caught.value.detail


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_renamed_setting_is_an_error_that_names_the_new_one(monkeypatch, old, new):
    """In a flag, a variable of either case and the file; the new name is a setting."""
    assert new in Settings.model_fields
    assert old not in Settings.model_fields
    flag, new_flag = (f"--{name.replace('_', '-')}" for name in (old, new))
    with pytest.raises(BadSetting, match=f"^{flag} has been renamed: use {new_flag}$"):
        load({old: "1"})
    for variable in (f"PEXDOCK_{old.upper()}", f"pexdock_{old}"):
        monkeypatch.setenv(variable, "1")
        with pytest.raises(BadSetting, match=f"^PEXDOCK_{old.upper()} has been renamed: use PEXDOCK_{new.upper()}$"):
            load()
        monkeypatch.delenv(variable)
    Path("pexdock.toml").write_text(f"{old} = 1\n")
    with pytest.raises(BadSetting, match=f"^`{old}` in pexdock.toml has been renamed: use `{new}`$"):
        load()


def test_variables_of_scripts_are_not_settings(monkeypatch):
    """PEXDOCK_PYTHON belongs to the start script."""
    monkeypatch.setenv("PEXDOCK_PYTHON", "/usr/bin/python3")
    assert load().port == 8080


def test_an_unknown_key_in_the_file_is_an_error_with_a_way_out():
    """The message suggests a similar name."""
    Path("pexdock.toml").write_text("dist_pth = 'x'\n")
    with pytest.raises(BadSetting, match=r"unknown setting `dist_pth` in pexdock\.toml: did you mean dist_path\?"):
        load()


def test_a_file_that_is_not_toml_is_named():
    """The message of the parser follows the name of the file."""
    Path("pexdock.toml").write_text("port: 1")
    with pytest.raises(BadSetting, match=r"cannot read pexdock\.toml as TOML"):
        load()


@pytest.mark.parametrize(("name", "value"), [("port", "70000"), ("port", "http"), ("workers_per_release", "0"), ("log_level", "loud")])
def test_a_bad_value_names_its_source(monkeypatch, name, value):
    """The message is one line for each source."""
    with pytest.raises(BadSetting, match=f"^--{name.replace('_', '-')} is '{value}': [a-z].*$"):
        load({name: value})
    monkeypatch.setenv(f"PEXDOCK_{name.upper()}", value)
    with pytest.raises(BadSetting, match=f"^PEXDOCK_{name.upper()} is '{value}'"):
        load()
    monkeypatch.delenv(f"PEXDOCK_{name.upper()}")
    Path("pexdock.toml").write_text(f"{name} = '{value}'\n")
    with pytest.raises(BadSetting, match=f"^`{name}` in pexdock.toml is '{value}'"):
        load()


def test_a_run_path_too_long_for_sockets_is_rejected_at_once():
    """Otherwise bind() would fail later with `AF_UNIX path too long`."""
    with pytest.raises(BadSetting, match=r"--run-path is .* at most 90"):
        load({"run_path": "/" + "x" * 100})


def test_paths_are_absolute_and_sizes_take_units(tmp_path, monkeypatch):
    """Children run with other current folders; 64MiB is easier to get right than 67108864."""
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    settings = load({"body_max_bytes": "64MiB"})
    assert settings.body_max_bytes == 64 * 1024**2
    assert settings.dist_path == tmp_path / "dist"
    assert settings.cache_path == Path("/home/somebody/.cache/pexdock")


def test_one_dist_has_one_run_path_by_whatever_path_it_is_named(tmp_path, monkeypatch):
    """Two supervisors of one dist/ must share a lock, and those of two folders must not."""
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    (tmp_path / "dist").mkdir()
    (tmp_path / "link").symlink_to("dist")
    assert load().run_path == load({"dist_path": "link"}).run_path != load({"dist_path": "other"}).run_path
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert load().run_path.parent == Path("/run/user/7")


def test_a_long_temporary_folder_does_not_break_the_default_run_path(monkeypatch):
    """Some build systems set TMPDIR to paths of 100 bytes and more."""
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", "/" + "t" * 100)
    assert load().run_path.parent == Path("/tmp")


def test_every_field_has_a_description_and_settings_are_frozen():
    """The descriptions are the help of the flags."""
    assert all(field.description for field in Settings.model_fields.values())
    with pytest.raises(ValueError, match="frozen"):
        Settings().port = 1


def test_metrics_are_disabled_or_go_to_a_file_or_to_standard_output(tmp_path, monkeypatch):
    """A relative path is resolved against the current folder; - is standard output."""
    assert load().emf is load().measuring is None
    monkeypatch.setenv("PEXDOCK_EMF_PATH", "metrics.log")
    assert load().emf == Emf(str(tmp_path / "metrics.log"), 10, "Pexdock", 500)
    chosen = load({"emf_path": "-", "emf_interval_s": "0.5", "emf_namespace": "Team/A", "emf_values_max": "7"})
    assert chosen.emf == Emf("-", 0.5, "Team/A", 7)
    assert chosen.measuring == MetricsConfig(0.5, 7)


@pytest.mark.parametrize(
    ("name", "value"),
    [("emf_path", ""), ("emf_namespace", "a*b"), ("emf_namespace", "a\n"), ("emf_interval_s", "0"), ("emf_values_max", "0")],
)
def test_metrics_that_cloudwatch_would_drop_are_rejected(name, value):
    """A namespace may contain only letters, digits and .-_/#: characters."""
    with pytest.raises(BadSetting, match=name.replace("_", "-")):
        load({name: value})


@pytest.mark.parametrize("source", ["flag", "flags", "variable", "list"])
def test_several_hosts_are_given_in_every_source(monkeypatch, tmp_path, source):
    """Separated by commas, by a repeated flag, or as a list."""
    flags = {}
    monkeypatch.chdir(tmp_path)
    if source == "variable":
        monkeypatch.setenv("PEXDOCK_HOST", "127.0.0.1,::1")
    elif source == "list":
        (tmp_path / "pexdock.toml").write_text('host = ["127.0.0.1", "::1"]\n')
    else:
        flags = {"host": ("127.0.0.1", "::1") if source == "flags" else ("127.0.0.1, ::1",)}
    assert load(flags).host == ("127.0.0.1", "::1")


def test_an_empty_host_is_an_error():
    """It would mean every address."""
    with pytest.raises(BadSetting, match="names no host"):
        load({"host": ("127.0.0.1,",)})
