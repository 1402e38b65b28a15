"""Bases of several versions side by side: each model runs on its own, behind one front door, or is refused with a reason."""

import pytest

import pexes
from base.ipc.control import WIRE_VERSION
from model_projects import write_project
from runtime.build.model import build_model
from supervisor_harness import Supervised
from tinypex import write_copied_base, write_tiny

TELLS = """\
import base
import base.service as svc
import polars as pl

@svc.endpoint(path="/PATH")
def predict(records_df: pl.DataFrame):
    return pl.Series([f"{base.__version__} {base.__file__}"] * len(records_df))
"""

OLDER, NEWER = "0.0.9", "0.2.0"


@pytest.fixture
def supervised(tmp_path):
    return Supervised(tmp_path)


def test_models_on_two_bases_serve_behind_one_front_door(supervised, tmp_path):
    """Each was built on its base and runs on the code of that one; a base that goes later takes no model with it."""
    bases = {version: write_copied_base(supervised.dist / f"base-{version}.pex", version) for version in (OLDER, NEWER)}
    (supervised.dist / "base.pex").unlink()
    for name, version in (("early", OLDER), ("late", NEWER)):
        project = write_project(tmp_path / name, TELLS.replace("PATH", name), name=name)
        build_model(project, bases[version], supervised.dist, cache=tmp_path / "builds", report=pexes.report)
    with supervised:
        assert [each["base_version"] for each in supervised.state()["releases"] if each["kind"] == "model"] == [OLDER, NEWER]
        for name, version in (("early", OLDER), ("late", NEWER)):
            (said,) = supervised.predictions(f"/{name}")
            assert said.startswith(f"{version} {tmp_path}/cache/bases/")
        bases[OLDER].unlink()
        supervised.until(lambda: "is no longer in dist/" in str(supervised.release(f"base-{OLDER}.pex")))
        assert supervised.predictions("/early")[0].startswith(OLDER)


def test_of_two_bases_with_one_version_a_model_takes_the_one_that_it_was_built_on(supervised, tmp_path):
    """As a rebuild leaves them; the order of names and of arrival decides nothing."""
    (supervised.dist / "base.pex").unlink()
    write_copied_base(supervised.dist / "base-a.pex", OLDER)
    own = write_copied_base(supervised.dist / "base-b.pex", OLDER, says_wire=WIRE_VERSION, more="rebuilt = True\n")
    write_copied_base(supervised.dist / "base-c.pex", OLDER, more="rebuilt = None\n")
    project = write_project(tmp_path / "project", TELLS.replace("PATH", "tiny").replace("__version__", "rebuilt"))
    build_model(project, own, supervised.dist, cache=tmp_path / "builds", report=pexes.report)
    with supervised:
        assert supervised.predictions("/tiny")[0].startswith("True ")
        assert supervised.release("tiny-0.1.0.pex")["warnings"] == []


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (WIRE_VERSION - 1, f"older than {WIRE_VERSION} of this runtime; rebuild the model on a current base"),
        (WIRE_VERSION + 1, f"newer than {WIRE_VERSION} of this runtime; restart Pexdock from the newer base"),
    ],
)
def test_another_wire_is_refused_before_anything_runs(supervised, wire, reason):
    """By what the model and its base say of themselves; what fits serves."""
    write_tiny(supervised.dist / "good.pex", "good")
    write_copied_base(supervised.dist / "other.pex", NEWER, wire=wire)
    write_tiny(supervised.dist / "model.pex", "model", built_on=NEWER, wire=wire)
    write_tiny(supervised.dist / "base-only.pex", "baseonly", built_on=NEWER)
    with supervised:
        refused = [supervised.release(file) for file in ("model.pex", "base-only.pex")]
        assert [each["state"] for each in refused] == ["refused", "refused"]
        assert refused[0]["reason"] == f"it has wire version {wire}, {reason}"
        assert refused[1]["reason"] == f"its base {NEWER} has wire version {wire}, {reason}"
        assert supervised.predictions("/good") == [6]
    assert "model 0.1.0: ready" not in supervised.err.read_text()


@pytest.mark.parametrize(("wire", "which"), [(WIRE_VERSION - 1, "older"), (WIRE_VERSION + 1, "newer")])
def test_another_wire_that_no_file_told_of_is_found_at_the_handshake(supervised, wire, which):
    """The worker is ended, and none of its requests is ever sent."""
    write_copied_base(supervised.dist / "other.pex", NEWER, wire=wire, says_wire=WIRE_VERSION)
    write_tiny(supervised.dist / "model.pex", "model", built_on=NEWER)
    with supervised:
        refused = supervised.until_state("model.pex", "refused")
        assert refused["reason"].startswith(f"its worker has wire version {wire}, {which} than {WIRE_VERSION}")
        supervised.until(lambda: supervised.release("model.pex")["worker_pids"] == [])
        assert supervised.predictions("/model") == [404]
