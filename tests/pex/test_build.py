"""What `pexdock build` makes out of real projects, and what it refuses."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import httpx
import pytest

import pexes
from base.ipc.control import WIRE_VERSION
from model_projects import DOUBLE, write_project
from runtime.build.model import build_model
from runtime.build.pack import refuse_other_content
from runtime.build.tool import BuildFailed, pex
from runtime.build.wheel import build_wheel
from runtime.pex.cache.store import PexCache
from runtime.pex.check import check_pex
from runtime.pex.file import read_pex
from servers import free_port
from supervisor_harness import Supervised

IRIS_MAX_BYTES = 1_200_000
"""pex's own bootstrap is 1.15 MB of it."""


def refusal(build, *args, **kwargs):
    with pytest.raises(BuildFailed) as caught:
        build(*args, **kwargs)
    return caught.value.detail


@pytest.mark.parametrize("name", ["iris", "transactions"])
def test_a_model_that_base_provides_for_is_little_more_than_a_bootstrap(built_dist, name):
    """It carries its own distribution and nothing else, and fits the base without a warning."""
    found = read_pex(next(built_dist.glob(f"{name}-*.pex")))
    assert found.size_bytes < IRIS_MAX_BYTES
    assert list(found.versions) == [name]
    assert check_pex(found, read_pex(next(built_dist.glob("base-*.pex")), checksums=False)) == []


def test_a_model_carries_the_version_that_it_asks_for(built_dist):
    """legacy_iris brings its own scikit-learn, and takes all that scikit-learn needs from base."""
    found = read_pex(next(built_dist.glob("legacy_iris-*.pex")))
    assert set(found.versions) == {"legacy-iris", "scikit-learn"}
    assert found.versions["scikit-learn"].startswith("1.7.")
    assert "scikit-learn" not in found.stamp.provided
    assert found.stamp.provided["numpy"]


def test_a_model_carries_packages_that_base_lacks(built_dist):
    """forecast brings statsmodels with what that needs, but neither numpy, pandas nor scipy, nor matplotlib of its dev group."""
    found = read_pex(next(built_dist.glob("forecast-*.pex")))
    assert set(found.versions) == {"forecast", "statsmodels", "patsy", "formulaic", "interface-meta", "wrapt"}
    assert {"numpy", "pandas", "scipy", "threadpoolctl"} <= set(found.stamp.provided)
    assert check_pex(found, read_pex(next(built_dist.glob("base-*.pex")), checksums=False)) == []


def test_stamps_name_the_base_and_the_wire(built_dist, base_pex, build_tiny_model):
    """The model's names the file that it was built on."""
    base = read_pex(base_pex, checksums=False)
    assert (base.kind, base.stamp.wire, base.stamp.version) == ("base", WIRE_VERSION, base.version)
    built = build_tiny_model()
    stamp = read_pex(built.path).stamp
    assert (stamp.kind, stamp.name, stamp.version, stamp.wire) == ("model", "tiny", "0.1.0", WIRE_VERSION)
    assert stamp.base.version == base.version
    assert stamp.base.sha256 == subprocess.run(["sha256sum", base_pex], check=True, capture_output=True, text=True).stdout.split()[0]


def test_base_holds_neither_build_tools_nor_linters(base_pex):
    """Only the main group of the lock, and the SDK."""
    versions = read_pex(base_pex, checksums=False).versions
    assert {"pexdock", "polars", "pyarrow", "scikit-learn", "mlflow-skinny", "fastapi"} <= set(versions)
    assert not {"pex", "poetry", "poetry-core", "pytest", "ruff", "mypy", "pip"} & set(versions)


def test_the_same_input_makes_the_same_file(tmp_path, build_tiny_model):
    """From two folders, with two caches, under another umask and clock: the same sha256."""
    first = build_tiny_model(cache=tmp_path / "cache-a", out=tmp_path / "a.pex")
    before = os.umask(0o077)
    try:
        second = build_tiny_model(cache=tmp_path / "cache-b", out=tmp_path / "b.pex")
    finally:
        os.umask(before)
    assert (first.reused, second.reused) == (False, False)
    assert first.sha256 == second.sha256
    assert first.path.read_bytes() == second.path.read_bytes()


def test_nothing_is_built_twice(tmp_path, base_pex):
    """Up to date where it lies, or taken out of the cache; a changed source is built, a broken file is made anew."""
    project, out, cache = write_project(tmp_path / "project"), tmp_path / "tiny.pex", tmp_path / "cache"
    lines = []

    def build():
        return build_model(project, base_pex, out, cache=cache, report=lines.append)

    first = build()
    assert lines
    lines.clear()
    assert build().reused
    out.write_bytes(out.read_bytes()[:1000])
    again = build()
    assert (again.reused, again.sha256, lines) == (True, first.sha256, [])
    (project / "tiny/__init__.py").write_text(DOUBLE.replace("* 2", "* 3"))
    changed = build()
    assert not changed.reused
    assert changed.sha256 != first.sha256


def test_a_conflict_with_base_names_both_sides(build_tiny_model, base_pex):
    """Found when the pex is built, not when it serves."""
    provided = read_pex(base_pex, checksums=False).versions["scikit-learn"]
    said = refusal(build_tiny_model, dependencies=["scikit-learn (>=1.7,<1.8)"])
    for part in (
        "tiny 0.1.0 requires scikit-learn<1.8,>=1.7",
        f"provides scikit-learn {provided}",
        "--carry scikit-learn",
        "[tool.pexdock]",
    ):
        assert part in said


def test_a_model_that_hides_our_modules_is_refused(tmp_path, base_pex):
    """A model's own package called `runtime`."""
    project = write_project(tmp_path / "project")
    shutil.move(project / "tiny", project / "runtime")
    (project / "pyproject.toml").write_text(
        (project / "pyproject.toml").read_text().replace("tiny:predict", "runtime:predict")
        + '[tool.poetry]\npackages = [{ include = "runtime" }]\n'
    )
    assert "'runtime', which would hide" in refusal(build_model, project, base_pex, tmp_path, cache=pexes.cache(), report=pexes.report)


def test_the_current_folder_changes_nothing(tmp_path, base_pex, monkeypatch):
    """A folder called like the model, and modules called like those of the tools: the pex has the code of the project that was named."""
    write_project(tmp_path / "tiny", version="0.1.0")
    project = write_project(tmp_path / "tiny-2", DOUBLE.replace("* 2", "* 3"), version="0.2.0")
    for module in ("pip", "pex", "packaging", "types"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit('imported from the current folder')\n")
    monkeypatch.chdir(tmp_path)
    relative = [os.path.relpath(path, tmp_path) for path in (project, base_pex, "out.pex", "cache")]
    built = build_model(*(Path(path) for path in relative[:3]), cache=Path(relative[3]), report=pexes.report)
    assert (built.name, built.version) == ("tiny", "0.2.0")
    with zipfile.ZipFile("out.pex") as archive:
        (code,) = [name for name in archive.namelist() if name.endswith("/tiny/__init__.py")]
        assert archive.read(code) == (project / "tiny/__init__.py").read_bytes()


def test_the_output_may_be_a_folder(tmp_path, base_pex):
    """On the command line, too: the file gets its usual name there."""
    project, folder = write_project(tmp_path / "project"), tmp_path / "out"
    folder.mkdir()
    command = [sys.executable, "-m", "runtime", "build", "model", project, "-o", f"{folder}/", "--base", base_pex]
    done = subprocess.run(command, cwd=pexes.ROOT, capture_output=True, text=True, check=True)
    assert [path.name for path in folder.glob("*.pex")] == ["tiny-0.1.0.pex"]
    assert "tiny 0.1.0" in done.stdout


def test_a_pex_of_other_wheels_is_refused(tmp_path):
    """Another version, other code under the same version, and a root that is missing are each named."""
    wheels = {
        name: build_wheel(write_project(tmp_path / name, source, version=version), tmp_path / f"{name}-wheel")
        for name, source, version in [("same", DOUBLE, "0.1.0"), ("changed", DOUBLE.replace("2", "3"), "0.1.0"), ("newer", DOUBLE, "0.2.0")]
    }
    packed = tmp_path / "tiny.pex"
    options = ["--pre-resolved-dists", wheels["same"], "--pex-root", tmp_path / "pex-root", "-o", packed]
    subprocess.run([*pex(), "tiny==0.1.0", *options], cwd=tmp_path / "same-wheel", check=True, capture_output=True)
    refuse_other_content(packed, ["tiny==0.1.0"], [wheels["same"]])
    for wheel in (wheels["changed"], wheels["newer"]):
        assert "different tiny-0.1.0-py3-none-any.whl" in refusal(refuse_other_content, packed, ["tiny==0.1.0"], [wheel])
    assert "missing large==0.1.0" in refusal(refuse_other_content, packed, ["tiny==0.1.0", "large==0.1.0"], [wheels["same"]])


def test_folders_that_are_no_projects_are_refused(tmp_path, base_pex):
    """Without a pyproject.toml, or with one that is not understood."""
    assert "no pyproject.toml" in refusal(build_model, tmp_path, base_pex, cache=tmp_path, report=pexes.report)
    (tmp_path / "pyproject.toml").write_text("[project\n")
    assert "is invalid" in refusal(build_model, tmp_path, base_pex, cache=tmp_path, report=pexes.report)


def test_run_by_hand_without_base_it_names_the_base_and_the_command(build_tiny_model, base_pex, tmp_path):
    """Exit code 64, one message, no traceback."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PEX_ROOT": str(tmp_path / "root")}
    done = subprocess.run([sys.executable, build_tiny_model().path], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 64
    assert f"PEX_PATH=dist/{base_pex.name} ./dist/tiny-0.1.0.pex" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("by_plain_pex", [False, True])
def test_a_worker_of_a_real_pex_finds_the_model_and_base(tmp_path, base_pex, build_tiny_model, by_plain_pex):
    """Built by us, or by pex alone as a zipapp without a venv and without a stamp."""
    built = plain_pex(tmp_path) if by_plain_pex else build_tiny_model().path
    store = PexCache(pexes.cache())
    try:
        base = store.unpack_base(base_pex)
        admitted = store.admit(built)
        assert check_pex(read_pex(admitted.path), base.pexfile, base_sha256=base.sha256) == []
        command = store.worker_command(admitted, base)
        code = (
            "from base.endpoint.discovery import discover; model, version, (endpoint,) = discover(); print(model, version, endpoint.path)"
        )
        said = subprocess.run([command[0], "-I", "-c", code], check=True, capture_output=True, text=True).stdout
        assert said == "tiny 0.1.0 /double\n"
    finally:
        store.close()


def test_a_pex_that_plain_pex_made_of_iris_serves_with_a_warning(tmp_path, base_pex):
    """The literal command of the README, without a lock and without base. What it carries in vain is named."""
    store = PexCache(pexes.cache())
    store.unpack_base(base_pex)  # to unpack and compile it may take longer than a start may take below
    store.close()
    supervised = Supervised(tmp_path, cache_path=pexes.cache())
    supervised.start_s = 180  # it carries all of base's packages again, and nobody has compiled those
    shutil.copyfile(base_pex, supervised.dist / "base.pex")
    subprocess.run([*pex(), "./models/iris", "-o", supervised.dist / "iris.pex"], cwd=pexes.ROOT, check=True, capture_output=True)
    with supervised:
        supervised.until(lambda: supervised.release("iris.pex")["state"] == "ready", deadline_s=180)
        reply = httpx.post(f"{supervised.state()['address']}/versions/iris", json=[{"package": "scikit-learn"}], timeout=60)
        assert reply.json()["predictions"][0].startswith("1.")
        (warning,) = supervised.release("iris.pex")["warnings"]
    assert "iris.pex carries what base" in warning
    assert "without it the file is" in warning


def plain_pex(folder):
    """What `pex ./project -o plain.pex` makes of a project without dependencies."""
    wheel = build_wheel(write_project(folder / "plain"), folder / "wheel")
    options = ["--pre-resolved-dists", wheel, "--pex-root", folder / "pex-root", "-o", folder / "plain.pex"]
    subprocess.run([*pex(), "tiny==0.1.0", *options], check=True, capture_output=True)
    return folder / "plain.pex"


def test_run_by_hand_with_base_it_serves(tmp_path, base_pex, build_tiny_model):
    """`PEX_PATH=dist/base.pex ./dist/tiny.pex` answers a request, and Ctrl-C ends it. The zips are unpacked by pex on the way."""
    port = free_port()
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PEX_ROOT": str(tmp_path / "root"), "PEX_PATH": str(base_pex)}
    command = [sys.executable, build_tiny_model().path, "--port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=pexes.ROOT, stdout=log, stderr=log)
    try:
        answer = ask(f"http://127.0.0.1:{port}/double", [{"x": 21}], process, tmp_path / "log")
        assert answer["predictions"] == [42]
    finally:
        process.send_signal(2)
        assert process.wait(timeout=60) in {0, 130}
        shutil.rmtree(tmp_path / "root", ignore_errors=True)


def ask(url, rows, process, log):
    """The answer, once there is somebody to give one."""
    deadline = time.monotonic() + 300
    request = urllib.request.Request(url, json.dumps(rows).encode(), {"Content-Type": "application/json"})
    while True:
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                return json.loads(reply.read())
        except (urllib.error.URLError, ConnectionError):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)


def test_a_list_of_what_is_in_it_lies_beside_each_pex(built_dist):
    """Of this very file, with every distribution that it holds."""
    for path in built_dist.glob("*-*.pex"):
        found = json.loads(path.with_name(f"{path.name}.cdx.json").read_text())
        subject = found["metadata"]["component"]
        assert subject["hashes"][0]["content"] == hashlib.sha256(path.read_bytes()).hexdigest()
        listed = {(each["name"], each["version"]) for each in found["components"] if each["type"] == "library"}
        pex = read_pex(path, checksums=False)
        assert listed | {(subject["name"], subject["version"])} >= set(pex.versions.items())


def test_a_pex_says_nothing_of_the_machine_that_built_it(built_dist):
    """No path of this checkout, of its environment or of the user's home stands in any file of ours in it."""
    for path in built_dist.glob("*-*.pex"):
        with zipfile.ZipFile(path) as archive:
            ours = [name for name in archive.namelist() if name in {"PEX-INFO", "__main__.py", "pexdock_start.py"} or "/pexdock-" in name]
            for name in ours:
                content = archive.read(name)
                assert str(pexes.ROOT).encode() not in content, name
                assert sys.prefix.encode() not in content, name
