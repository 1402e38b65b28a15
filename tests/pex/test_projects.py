"""`pexdock build model` takes the projects of every tool, and makes the same file of the same model."""

import hashlib
import shutil
import subprocess
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest

import pexes
from handmade_pexes import Wheel
from model_projects import DOUBLE, write_project
from runtime.build import tool
from runtime.build.model import build_model, plan_model
from runtime.build.tool import BuildFailed
from runtime.build.wheel import build_wheel
from runtime.pex.cache.store import PexCache
from runtime.pex.check import check_pex
from runtime.pex.file import read_pex

EXTRA, NEEDLESS = Wheel("extra", "1.0", ("needless",), files={"extra/__init__.py": "x = 3\n"}), Wheel("needless", "2.0")


def write_wheel(folder, wheel):
    """Writes a wheel file, and returns its digest."""
    folder.mkdir(exist_ok=True)
    info = f"{wheel.name}-{wheel.version}.dist-info"
    with zipfile.ZipFile(folder / wheel.file_name, "w") as archive:
        members = wheel.members() | {f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in [*members, f"{info}/RECORD"]))
    return hashlib.sha256((folder / wheel.file_name).read_bytes()).hexdigest()


def lock_by_uv(project, digest):
    (project / "uv.lock").write_text(
        f"""version = 1
[[package]]
name = "extra"
version = "1.0"
source = {{ registry = "wheels" }}
wheels = [{{ path = "extra-1.0-py3-none-any.whl", hash = "sha256:{digest}" }}]
"""
    )


def lock_by_pylock(project, digest):
    (project / "pylock.toml").write_text(
        f"""lock-version = "1.0"
created-by = "hand"
[[packages]]
name = "extra"
version = "1.0"
wheels = [{{ path = "wheels/extra-1.0-py3-none-any.whl", hashes = {{ sha256 = "{digest}" }} }}]
"""
    )


def lock_by_requirements(project, digest):
    (project / "requirements.txt").write_text(f"--find-links wheels\nextra==1.0 \\\n    --hash=sha256:{digest}\n")


def lock_by_poetry(project, digest):
    subprocess.run([*tool.poetry(), "lock"], cwd=project, check=True, capture_output=True)


def lock_on_the_spot(project, digest):
    """The wheels are found by PIP_FIND_LINKS."""


WAYS = [lock_by_uv, lock_by_pylock, lock_by_requirements, lock_by_poetry, lock_on_the_spot]
MORE = """
[tool.poetry.dependencies]
extra = { path = "wheels/extra-1.0-py3-none-any.whl" }

[tool.poetry.group.needless.dependencies]
needless = { path = "wheels/needless-2.0-py3-none-any.whl" }

[tool.pexdock]
exclude = ["needless"]
"""


def test_the_same_model_is_the_same_file_however_it_is_locked(tmp_path, base_pex, monkeypatch):
    """By uv, by PEP 751, by requirements with hashes, by Poetry, and on the spot, which warns; and it starts without what it excludes."""
    source = DOUBLE.replace('["x"] * 2', '["x"] * extra.x').replace("import polars", "import extra\nimport polars")
    digest = write_wheel(tmp_path / "wheels", EXTRA)
    write_wheel(tmp_path / "wheels", NEEDLESS)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))

    def build(way):
        project = write_project(tmp_path / way.__name__, source, dependencies=["extra>=1"], more=MORE)
        shutil.copytree(tmp_path / "wheels", project / "wheels")
        way(project, digest)
        out = tmp_path / f"{way.__name__}.pex"
        return build_model(project, base_pex, out, cache=tmp_path / "cache", report=pexes.report)

    with ThreadPoolExecutor(2) as pool:
        built = dict(zip(WAYS, pool.map(build, WAYS), strict=True))
    assert {each.sha256 for each in built.values()} == {built[lock_by_uv].sha256}
    assert [(name, version) for name, version, _ in built[lock_by_uv].carried] == [("extra", "1.0")]
    assert built[lock_by_uv].warnings == ()
    (warning,) = built[lock_on_the_spot].warnings
    assert "has no lock, so the newest versions that fit base were taken: extra 1.0." in warning
    store = PexCache(pexes.cache())
    try:
        base, admitted = store.unpack_base(base_pex), store.admit(built[lock_by_uv].path)
        assert check_pex(read_pex(admitted.path), base.pexfile, base_sha256=base.sha256) == []
        code = "from base.endpoint.discovery import discover; import extra; print(discover()[0], extra.x)"
        command = [store.worker_command(admitted, base)[0], "-I", "-c", code]
        assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "tiny 3\n"
    finally:
        store.close()


def test_a_plan_writes_nothing_and_says_what_comes_from_where(tmp_path, base_pex):
    """What the model carries, with sizes, and what base provides of what it requires; a lock that lacks a package is named."""
    project = write_project(
        tmp_path / "tiny", dependencies=["extra", "polars"], more='[tool.pexdock]\nwarn_above_mb = 0\nexclude=["needless"]'
    )
    lock_by_uv(project, write_wheel(project / "wheels", EXTRA))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    plan = plan_model(project, base_pex, cache=pexes.cache(), report=pexes.report)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert (plan.name, plan.version, plan.lock, plan.excluded) == ("tiny", "0.1.0", project / "uv.lock", ("needless",))
    assert [(name, version) for name, version, _ in plan.carried] == [("extra", "1.0")]
    assert plan.provided == {"polars": read_pex(base_pex, checksums=False).versions["polars"]}
    (warning,) = plan.warnings
    assert "most of it extra 0 MB; what the model does without can be left out with exclude" in warning
    (project / "uv.lock").write_text("version = 1\npackage = []\n")
    with pytest.raises(BuildFailed, match=r"must carry extra, which its uv.lock does not pin .*run `uv lock` in"):
        plan_model(project, base_pex, cache=pexes.cache(), report=pexes.report)


def test_path_and_git_dependencies_are_built_and_leave_no_path_behind(tmp_path, base_pex):
    """Also if the wheel itself names the path, as Poetry's does; a change in the dependency is a change of the model."""
    for name in ("helper", "gitdep"):
        write_project(tmp_path / name, "x = 1\n", name=name, endpoints=())
    git = ["git", "-C", tmp_path / "gitdep", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    dependencies = [f"helper @ file://{tmp_path}/helper", f"gitdep @ git+file://{tmp_path}/gitdep@main", f"pexdock @ file://{pexes.ROOT}"]
    project = write_project(tmp_path / "tiny", dependencies=dependencies)
    (project / "requirements.txt").write_text(f"../helper\ngitdep @ git+file://{tmp_path}/gitdep@{commit}\nx==1 --hash=sha256:00\n")

    def build():
        return build_model(project, base_pex, tmp_path / "tiny.pex", cache=tmp_path / "cache", report=pexes.report)

    first = build()
    assert {name for name, _, _ in first.carried} == {"helper", "gitdep"}
    with zipfile.ZipFile(first.path) as archive:
        assert not [name for name in archive.namelist() if str(tmp_path).encode() in archive.read(name)]
    assert build().reused
    (tmp_path / "helper/helper/__init__.py").write_text("x = 2\n")
    second = build()
    assert not second.reused
    assert second.sha256 != first.sha256


BUILDERS = {
    "setuptools": '[build-system]\nrequires = ["setuptools>=64"]\nbuild-backend = "setuptools.build_meta"\n',
    "none": "",
    "hatchling": '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n',
    "flit": '[build-system]\nrequires = ["flit_core>=3.11,<4"]\nbuild-backend = "flit_core.buildapi"\n',
    "uv": '[build-system]\nrequires = ["uv_build"]\nbuild-backend = "uv_build"\n[tool.uv.build-backend]\nmodule-root = ""\n',
}


def test_every_builder_makes_a_wheel_and_leaves_the_project_as_it_was(tmp_path):
    """In an environment of its own: none of them is installed here as it must be. What an earlier build left behind is not packed."""

    def build(name):
        project = write_project(tmp_path / name)
        text = (project / "pyproject.toml").read_text().partition("[build-system]")[0] + BUILDERS[name]
        (project / "pyproject.toml").write_text(text.replace("[project]", '[project]\ndescription = "A model"', 1))
        stale = project / "build/lib/tiny/stale.py"
        stale.parent.mkdir(parents=True)
        stale.touch()
        before = set(project.rglob("*"))
        wheel = build_wheel(project, tmp_path / f"{name}-wheel")
        with zipfile.ZipFile(wheel) as archive:
            return {each for each in archive.namelist() if ".dist-info" not in each}, set(project.rglob("*")) - before

    with ThreadPoolExecutor(3) as pool:
        assert dict(zip(BUILDERS, pool.map(build, BUILDERS), strict=True)) == dict.fromkeys(BUILDERS, ({"tiny/__init__.py"}, set()))
