"""Models that were built on the base of the release before, by its own builder, behind the front door of now; and the other way round."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import httpx
import polars as pl
import pytest

import base
import pexes
import wire
from base.ipc.control import WIRE_VERSION
from git_history import BEFORE, RELEASED, run_in, tree_of
from load_clients import LoadClients
from model_projects import write_project
from operated_supervisor import Operated
from runtime.build.model import build_model
from runtime.settings import RENAMED
from tinypex import ROOT, write_copied_base, write_tiny
from waiting import until

KNOWN_WIRE = json.loads(wire.FILE.read_text())["wire"]

same_wire = pytest.mark.skipif(KNOWN_WIRE != WIRE_VERSION, reason="the wire version has risen since the release: its models are refused")

ENDPOINTS = ("doubles", "version", "echo", "counts", "refuses", "fails", "adds")
"""Of tests/models/talks.py."""

OLD_SETTINGS = {new: old for old, new in RENAMED.items()}
"""The names of settings in the release, by their present names."""

ARROW = "application/vnd.apache.arrow.stream"


class Built(NamedTuple):
    """A dist/ with both bases and a model on each, and what else was built for it."""

    release: Path
    dist: Path
    artifacts: Path
    successor: Path


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """The tree of the release."""
    return tree_of(RELEASED, tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module")
def built(release, tmp_path_factory):
    """`early` 0.1.0 by the builder of the release, on its base; `late` and `early` 0.2.0 by that of now, on the base of now."""
    folder = tmp_path_factory.mktemp("built")
    (folder / "artifacts").mkdir()
    (folder / "artifacts/100").write_text("100")
    bases = [
        write_copied_base(folder / "dist/base-0.1.0.pex", tree=release),
        write_copied_base(folder / f"dist/base-{base.__version__}.pex"),
    ]
    run_in(release, "build", "model", project(folder, "early"), "--base", bases[0], cache=folder / "cache-of-release")
    build_model(project(folder, "late"), bases[1], cache=folder / "cache", report=pexes.report)
    (folder / "later").mkdir()
    later = build_model(project(folder, "early", "0.2.0"), bases[1], folder / "later", cache=folder / "cache", report=pexes.report)
    return Built(release, folder / "dist", folder / "artifacts", later.path)


def project(folder, name, version="0.1.0"):
    """The model of tests/models/talks.py under this name. It leaves `imported-<name>` in the folder where it is imported."""
    source = (ROOT / "tests/models/talks.py").read_text().replace("NAME", name)
    source = source.replace("ARTIFACTS", str(folder / "artifacts")).replace("IMPORTED", str(folder / f"imported-{name}"))
    return write_project(folder / f"{name}-{version}", source, name=name, version=version, endpoints=ENDPOINTS)


@pytest.fixture
def operated(tmp_path):
    """A supervisor of now, in whose dist/ nothing lies."""
    made = Operated(tmp_path, rollback_window_s=60, emf_path=tmp_path / "emf")
    (made.dist / "base.pex").unlink()
    return made


def test_the_known_wire_is_that_of_the_release(release):
    """The test that decides whether the wire version must rise compares with it. Names in the code may have changed since."""
    env = {"PYTHONPATH": str(release)}
    described = subprocess.run([sys.executable, release / "scripts/wire.py"], env=env, capture_output=True, check=True).stdout
    assert without_names(json.loads(described)) == without_names(json.loads(wire.FILE.read_text()))


def without_names(description):
    """Returns a description of the wire without the names of classes, of fields of channel messages, and of flags, which are not sent."""
    structs = description.get("structs") or description["words"]

    def expanded(name):
        return {field: re.sub(r"_?(\w+)", lambda found: named(found[0]), kind) for field, kind in structs[name].items()}

    def named(word):
        name = word.lstrip("_")
        return json.dumps(expanded(name)) if name in structs else word

    messages = [
        (fields["as bytes"], [re.sub(r"\bPlace\b", "SegmentSlice", kind) for name, kind in fields.items() if name != "as bytes"])
        for fields in description["messages"].values()
    ]
    return {
        "wire": description["wire"],
        "structs": sorted(json.dumps(expanded(name)) for name in structs),
        "failures": description["failures"],
        "messages": sorted(messages),
        "flags": sorted(description["flags"].values()),
    }


@same_wire
def test_a_model_built_on_the_base_of_the_release_serves_beside_one_of_now(built, operated):
    """Rows, batches, streams, errors and artifacts are right in both; what the supervisor asks their workers is answered, too."""
    shutil.copytree(built.dist, operated.dist, dirs_exist_ok=True)
    with operated:
        models = {each["name"]: each for each in operated.state()["releases"] if each["kind"] == "model"}
        assert {name: each["base_version"] for name, each in models.items()} == {"early": "0.1.0", "late": base.__version__}
        assert [each["warnings"] for each in models.values()] == [[], []]
        for name in models:
            talk(operated.state()["address"], name, models[name]["base_version"])
            assert '"100"' in operated.run("cache", name, "--json").stdout
            assert operated.run("refresh", name, "--all").returncode == 0
    lines = [json.loads(line) for line in operated.settings["emf_path"].read_text().splitlines()]
    assert {line["Model"] for line in lines if "HandlerTime" in line} == {"early", "late"}


@same_wire
@pytest.mark.timeout(1800)  # it builds and unpacks the base of the release, and where nobody did so before that of now
def test_real_pexes_of_the_release_serve_beside_those_of_now(release, base_pex, operated, tmp_path):
    """Bases of all their packages, each built from its own lock, and a model on each."""
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts/100").write_text("100")
    operated.settings["cache_path"], operated.start_s = pexes.cache(), 600
    released_pex = operated.dist / "base-0.1.0.pex"
    run_in(release, "build", "base", "-o", released_pex, cache=pexes.cache())
    run_in(release, "build", "model", project(tmp_path, "early"), "--base", released_pex, cache=pexes.cache())
    build_model(project(tmp_path, "late"), base_pex, operated.dist, cache=pexes.cache(), report=pexes.report)
    (operated.dist / base_pex.name).symlink_to(base_pex)
    with operated:
        for name, version in (("early", "0.1.0"), ("late", base.__version__)):
            assert operated.release(f"{name}-0.1.0.pex")["warnings"] == []
            talk(operated.state()["address"], name, version)
    released_pex.unlink()  # folders of tests are kept for a while, and it is large


def talk(address, name, version):
    """Has everything cross that can."""
    with httpx.Client(base_url=f"{address}/{name}", timeout=30) as client:

        def ask(path, rows, **kwargs):
            return client.post(path, json=rows, **kwargs)

        (said,) = ask("/version", [{"x": 1}]).json()["predictions"]
        assert said.startswith(f"{version} ")
        assert ask("/doubles", [{"x": x} for x in range(500)]).json()["predictions"] == list(range(0, 1000, 2))
        assert ask("/doubles", [{"x": "y"}]).status_code == 422
        (row,) = ask("/echo/a", [{"any": [1, None]}], headers={"x-user": "me", "x-other": "not"}).json()["predictions"]
        assert row == {"any": [1, None], "path": "a", "user": "me"}
        assert [json.loads(line) for line in ask("/counts", {"x": 3}).text.splitlines()] == [{"number": number} for number in range(3)]
        assert ask("/refuses", [{"x": 1}, {"x": -1}]).status_code == 409
        assert ask("/refuses", [{"x": 1}]).json()["predictions"] == [1]
        assert (ask("/fails", [{"x": 1}]).status_code, ask("/adds/100", [{"x": 1}]).json()["predictions"]) == (500, [101])
        assert ask("/adds/200", [{"x": 1}]).status_code == 404
        large = pl.DataFrame({"x": range(300_000), "word": ["a"] * 300_000})
        reply = client.post("/doubles", content=large.write_ipc_stream(None).getvalue(), headers={"content-type": ARROW, "accept": ARROW})
        assert pl.read_ipc_stream(reply.content).to_series().to_list() == list(range(0, 600_000, 2))
    with LoadClients(address, f"/{name}/doubles", 8) as callers:
        until(lambda: callers.statuses.total() >= 400, "the callers are not answered")
    assert (set(callers.statuses), callers.faults) == ({200}, [])


@same_wire
def test_a_model_moves_from_the_base_of_the_release_to_that_of_now_and_back_without_loss(built, operated):
    """Sixteen connections ask without pause: by a drop, by a roll-back and by a promotion."""
    shutil.copytree(built.dist, operated.dist, dirs_exist_ok=True)
    (operated.dist / "late-0.1.0.pex").unlink()

    def moved(version, seen):
        operated.until(lambda: operated.predictions("/early/version")[0].startswith(version))
        operated.until(lambda: callers.statuses.total() > seen + 200)
        return callers.statuses.total()

    with operated, LoadClients(operated.state()["address"], "/early/doubles", 16) as callers:
        seen = moved("0.1.0 ", 0)
        shutil.copyfile(built.successor, operated.dist / built.successor.name)
        seen = moved(f"{base.__version__} ", seen)
        for order, version in (("rollback", "0.1.0 "), ("promote", f"{base.__version__} ")):
            done = operated.run(order, "early", *(["0.2.0"] if order == "promote" else []))
            assert done.returncode == 0, done.stderr
            seen = moved(version, seen)
    assert (set(callers.statuses), callers.faults) == ({200}, [])


@same_wire
def test_a_model_whose_base_is_missing_is_told_which_one(built, operated):
    """By `pexdock check` and in the list of models."""
    for file in built.dist.glob("*.pex"):
        if file.name != "base-0.1.0.pex":
            shutil.copyfile(file, operated.dist / file.name)
    needs = f"was built on base-0.1.0.pex, which is missing (available: base-{base.__version__}.pex); add that file or rebuild the model"
    with operated:
        done = operated.run("check", operated.dist / "early-0.1.0.pex", "--dist-path", operated.dist)
        assert done.returncode == 1
        assert needs in done.stderr
        assert needs in operated.run("models").stdout
        assert operated.predictions("/late/doubles") == [6]


def test_a_model_of_an_older_wire_is_refused_before_anything_of_it_runs(operated, tmp_path):
    """Built by its own tree. Its base has the version of the release, too, and lies beside it."""
    tree = tree_of(BEFORE, tmp_path / "tree")
    its_base = write_copied_base(operated.dist / "base-0.1.0.pex", tree=tree)
    run_in(tree, "build", "model", project(tmp_path, "early"), "--base", its_base, cache=tmp_path / "cache-of-tree")
    write_copied_base(operated.dist / "base.pex")
    write_tiny(operated.dist / "good.pex", "good", built_on=base.__version__)
    with operated:
        refused = operated.until_state("early-0.1.0.pex", "refused")
        older = f"it has wire version 6, older than {WIRE_VERSION} of this runtime"
        assert refused["reason"] == f"{older}; rebuild the model on a current base"
        done = operated.run("check", operated.dist / "early-0.1.0.pex", "--dist-path", operated.dist)
        assert (done.returncode, refused["reason"] in done.stderr) == (1, True)
        assert operated.predictions("/good") == [6]
        assert operated.predictions("/early/doubles") == [404]
    assert not (tmp_path / "imported-early").exists()


def test_the_release_refuses_a_model_of_a_newer_wire(release, operated):
    """Its own runtime meets a base of now whose wire version has risen; its own models serve on."""
    operated.tree = release
    operated.settings = {OLD_SETTINGS.get(name, name): value for name, value in operated.settings.items()}
    operated.settings = {OLD_SETTINGS.get(name, name): value for name, value in operated.settings.items()}
    write_copied_base(operated.dist / "base-0.1.0.pex", tree=release)
    write_copied_base(operated.dist / "base-next.pex", wire=KNOWN_WIRE + 1)
    write_tiny(operated.dist / "good.pex", "good", built_on="0.1.0", wire=KNOWN_WIRE)
    write_tiny(operated.dist / "next.pex", "next", built_on=base.__version__, wire=KNOWN_WIRE + 1)
    with operated:
        newer = f"it speaks wire version {KNOWN_WIRE + 1}, newer than {KNOWN_WIRE} of this runtime"
        assert operated.release("next.pex")["reason"] == f"{newer}; start Pexdock again from the newer base"
        assert operated.predictions("/good") == [6]
