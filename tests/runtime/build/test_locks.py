"""Each form of a lock is read as its tool writes it, to the same pins. The files are excerpts of what the tools wrote."""

import pytest

from runtime.build.locks.find import find_lock, found_locks
from runtime.build.locks.pin import Pin
from runtime.build.locks.pylock import read_pylock
from runtime.build.locks.requirements import loose_constraints, read_requirements
from runtime.build.locks.uv import read_uv
from runtime.build.tool import BuildFailed

COMMIT = "dcc93ff576714b3db5890b3a872e41197cba19ae"

UV = """\
version = 1
revision = 5
requires-python = ">=3.11"

[[package]]
name = "fork"
version = "1.0"
source = { registry = "https://index.example/packages" }
resolution-markers = ["python_full_version < '3.0'"]
wheels = [{ url = "https://files.example/fork-1.0-py3-none-any.whl", hash = "sha256:f1" }]

[[package]]
name = "fork"
version = "2.0"
source = { registry = "https://index.example/packages" }
resolution-markers = ["python_full_version >= '3.0' and sys_platform == 'win32'", "python_full_version >= '3.0'"]
sdist = { url = "https://files.example/fork-2.0.tar.gz", hash = "sha256:f3", size = 1 }
wheels = [{ url = "https://files.example/fork-2.0-py3-none-any.whl", hash = "sha256:f2", size = 1 }]

[[package]]
name = "flat"
version = "1.0"
source = { registry = "wheels" }
wheels = [{ path = "flat-1.0-py3-none-any.whl", hash = "sha256:aa" }]

[[package]]
name = "gitdep"
version = "1.0"
source = { git = "https://git.example/gitdep?subdirectory=python&tag=v1#COMMIT" }

[[package]]
name = "archive"
version = "1.0"
source = { url = "https://files.example/archive-1.0-py3-none-any.whl" }
wheels = [{ url = "https://files.example/archive-1.0-py3-none-any.whl", hash = "sha256:bb" }]

[[package]]
name = "local"
version = "1.0"
source = { path = "vendor/local-1.0-py3-none-any.whl" }
wheels = [{ filename = "local-1.0-py3-none-any.whl", hash = "sha256:cc" }]

[[package]]
name = "helper"
version = "1.0"
source = { directory = "../helper" }

[[package]]
name = "tiny"
version = "0.1.0"
source = { editable = "." }
dependencies = [{ name = "helper" }]
""".replace("COMMIT", COMMIT)

PYLOCK = """\
lock-version = "1.0"
created-by = "uv"
requires-python = ">=3.11"

[[packages]]
name = "fork"
version = "1.0"
marker = "python_full_version < '3.0'"
index = "https://index.example/packages"
wheels = [{ url = "https://files.example/fork-1.0-py3-none-any.whl", hashes = { sha256 = "f1" } }]

[[packages]]
name = "fork"
version = "2.0"
marker = "python_full_version >= '3.0'"
index = "https://index.example/packages"
sdist = { url = "https://files.example/fork-2.0.tar.gz", hashes = { sha256 = "f3" } }
wheels = [{ url = "https://files.example/fork-2.0-py3-none-any.whl", hashes = { sha256 = "f2" } }]

[[packages]]
name = "direct"
version = "1.0"
wheels = [{ url = "https://files.example/direct-1.0-py3-none-any.whl", hashes = { sha256 = "dd" } }]

[[packages]]
name = "gitdep"
version = "1.0"
vcs = { type = "git", url = "https://git.example/gitdep", requested-revision = "v1", commit-id = "COMMIT", subdirectory = "python" }

[[packages]]
name = "archive"
version = "1.0"
archive = { url = "https://files.example/archive-1.0-py3-none-any.whl", hashes = { sha256 = "bb" } }

[[packages]]
name = "helper"
directory = { path = "../helper", editable = false }
""".replace("COMMIT", COMMIT)

REQUIREMENTS = """\
# what pip-compile and `uv export` write
--index-url https://index.example/packages
--extra-index-url=https://me:${PASSWORD}@more.example/packages
--only-binary :all:
-r more.txt
./../helper
    # via tiny
fork==1.0 ; python_full_version < '3.0' \\
    --hash=sha256:f1
Fork==2.0 ; python_full_version >= '3.0' \\
    --hash=sha256:f3 \\
    --hash=sha256:f2  # via tiny
archive @ https://files.example/archive-1.0-py3-none-any.whl \\
    --hash=sha256:bb
./vendor/local-1.0-py3-none-any.whl --hash=sha256:cc
git+https://git.example/gitdep@COMMIT#egg=gitdep&subdirectory=python
gone @ file:///nowhere ; sys_platform == 'win32'
""".replace("COMMIT", COMMIT)


@pytest.fixture
def project(tmp_path):
    """A project with a path dependency beside it."""
    for name in ("tiny", "helper"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pyproject.toml").write_text(f"[project]\nname = '{name}'\nversion = '1.0'\n")
    return tmp_path / "tiny"


def pins(read, file, text):
    file.write_text(text)
    return {pin.name: pin for pin in read(file)}


def test_uv_lock(project):
    """Forks by marker, a folder of wheels, a commit, an archive, a wheel and a folder beside the project."""
    found = pins(read_uv, project / "uv.lock", UV)
    assert found == {
        "fork": Pin("fork", "2.0", ("sha256:f2", "sha256:f3"), options=("--extra-index-url https://index.example/packages",)),
        "flat": Pin("flat", "1.0", ("sha256:aa",), options=(f"--find-links {project}/wheels",)),
        "gitdep": Pin("gitdep", "1.0", link=f"git+https://git.example/gitdep@{COMMIT}#subdirectory=python"),
        "archive": Pin("archive", "1.0", ("sha256:bb",), "https://files.example/archive-1.0-py3-none-any.whl"),
        "local": Pin("local", "1.0", ("sha256:cc",), f"file://{project}/vendor/local-1.0-py3-none-any.whl"),
        "helper": Pin("helper", "1.0", link=f"file://{project.parent}/helper"),
        "tiny": Pin("tiny", "0.1.0", link=f"file://{project}"),
    }
    assert found["helper"].folder == project.parent / "helper"
    assert found["local"].folder is None


def test_pylock(project):
    """The same, as PEP 751 writes it. Without an index, pip is pointed at the file."""
    assert pins(read_pylock, project / "pylock.toml", PYLOCK) == {
        "fork": Pin("fork", "2.0", ("sha256:f2", "sha256:f3"), options=("--extra-index-url https://index.example/packages",)),
        "direct": Pin("direct", "1.0", ("sha256:dd",), options=("--find-links https://files.example/direct-1.0-py3-none-any.whl",)),
        "gitdep": Pin("gitdep", "1.0", link=f"git+https://git.example/gitdep@{COMMIT}#subdirectory=python"),
        "archive": Pin("archive", "1.0", ("sha256:bb",), "https://files.example/archive-1.0-py3-none-any.whl"),
        "helper": Pin("helper", "", link=f"file://{project.parent}/helper"),
    }


def test_a_pylock_for_another_python_says_so(project):
    """It is valid, and of no use here."""
    with pytest.raises(BuildFailed, match=r"pylock.toml cannot be used here: .*lock again for Python"):
        pins(read_pylock, project / "pylock.toml", PYLOCK.replace('">=3.11"', '"<3"'))


def test_requirements_with_hashes(project, monkeypatch):
    """Included files, variables, comments, continued lines, names in addresses; markers that do not hold."""
    monkeypatch.setenv("PASSWORD", "s3cret")
    (project / "more.txt").write_text("--find-links wheels\nflat==1.0 --hash=sha256:aa\n")
    options = (
        "--extra-index-url https://me:s3cret@more.example/packages",
        f"--find-links {project}/wheels",
        "--index-url https://index.example/packages",
    )
    assert pins(read_requirements, project / "requirements.txt", REQUIREMENTS) == {
        "flat": Pin("flat", "1.0", ("sha256:aa",), options=options),
        "helper": Pin("helper", link=f"file://{project.parent}/helper"),
        "fork": Pin("fork", "2.0", ("sha256:f2", "sha256:f3"), options=options),
        "archive": Pin("archive", "", ("sha256:bb",), "https://files.example/archive-1.0-py3-none-any.whl"),
        "local": Pin("local", "", ("sha256:cc",), f"file://{project}/vendor/local-1.0-py3-none-any.whl"),
        "gitdep": Pin("gitdep", "", link=f"git+https://git.example/gitdep@{COMMIT}#egg=gitdep&subdirectory=python"),
    }


@pytest.mark.parametrize("line", ["fork>=1 --hash=sha256:f1", "fork==1.0", "fork", "fork==1.* --hash=sha256:f1"])
def test_a_line_that_pins_nothing_is_refused_in_a_lock(project, line):
    """Silently taking the newest would be no lock."""
    with pytest.raises(BuildFailed, match=r"pin no version of fork with its hashes"):
        pins(read_requirements, project / "requirements.txt", f"other==1.0 --hash=sha256:aa\n{line}\n")


def test_requirements_without_hashes_are_no_lock_but_limit_versions(project):
    """Those of packages that base provides do not count, since base decides."""
    file = project / "requirements.txt"
    file.write_text("fork==1.0\nnumpy==1.26\nother<3; python_version > '3'\n-e .\nbare\n")
    assert found_locks(project) == []
    assert loose_constraints(file, {"numpy"}) == ["fork==1.0", 'other<3; python_version > "3"']
    assert loose_constraints(project / "none.txt", set()) == []


def test_the_lock_that_a_project_uses_is_found(project):
    """uv before PEP 751 before requirements; Poetry first only where the project is Poetry's. [tool.pexdock] may name another."""
    for name, text in {"uv.lock": UV, "pylock.toml": PYLOCK, "poetry.lock": "", "requirements.txt": "a==1 --hash=sha256:aa"}.items():
        (project / name).write_text(text)
    assert [file.name for file in found_locks(project)] == ["uv.lock", "pylock.toml", "poetry.lock", "requirements.txt"]
    (project / "pyproject.toml").write_text("[tool.poetry]\nname = 'tiny'\n")
    assert find_lock(project).file.name == "poetry.lock"
    assert find_lock(project, "pylock.toml").pins()["archive"].hashes == ("sha256:bb",)
    with pytest.raises(BuildFailed, match=r"other.txt, which \[tool.pexdock\] names as the lock, does not exist"):
        find_lock(project, "other.txt")


def test_a_member_of_a_workspace_has_the_lock_of_the_workspace(project):
    """Only if the folder above is a workspace of uv."""
    (project.parent / "uv.lock").write_text(UV)
    (project.parent / "pyproject.toml").write_text("[project]\nname = 'other'\n")
    assert find_lock(project) is None
    (project.parent / "pyproject.toml").write_text("[tool.uv.workspace]\nmembers = ['tiny']\n")
    assert find_lock(project).file == project.parent / "uv.lock"


@pytest.mark.parametrize(("name", "text"), [("uv.lock", "[[package]]\n"), ("uv.lock", "x"), ("pylock.toml", "a = 1"), ("uv.lock", "a = 1")])
def test_a_lock_that_is_not_understood_is_named(project, name, text):
    """A broken merge, or a form that is newer than this."""
    (project / name).write_text(text)
    with pytest.raises(BuildFailed, match=name):
        find_lock(project).pins()


def test_two_versions_for_this_machine_are_refused(project):
    """Which of them the model needs cannot be known."""
    (project / "uv.lock").write_text(UV.replace("< '3.0'", "> '3.0'"))
    with pytest.raises(BuildFailed, match=r"pins fork 1.0 and 2.0, both for this machine"):
        find_lock(project).pins()
