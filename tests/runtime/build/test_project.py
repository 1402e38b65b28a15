"""Tests of what a model's project says about its pex, and of what becomes of its files in the wheel."""

import base64
import csv
import hashlib
import subprocess
import zipfile

import pytest

from runtime.build.project import ModelOptions, left_out_warning
from runtime.build.tool import BuildFailed
from runtime.build.wheel import normalize_wheel, read_wheel, without_links


@pytest.fixture
def project(tmp_path):
    """A project in a repository that ignores `*.bin`."""
    (tmp_path / "tiny/data").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text('[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n')
    (tmp_path / ".gitignore").write_text("*.bin\n")
    for name in ("__init__.py", "left.py", "words.txt", "data/weights.bin", "packed.csv"):
        (tmp_path / "tiny" / name).write_text("")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    return tmp_path


PACKED = ["tiny/__init__.py", "tiny/packed.csv", "tiny-1.0.dist-info/METADATA"]


def test_files_that_a_wheel_leaves_out_are_named_with_the_reason(project):
    """Those that git ignores, which most backends leave out without a word, and those that the backend was not told of; no sources."""
    (said,) = left_out_warning(project, PACKED)
    assert "leaves out tiny/data/weights.bin (ignored by git), tiny/words.txt; " in said
    assert "`artifacts` in [tool.hatch.build.targets.wheel]" in said
    assert list(left_out_warning(project, [*PACKED, "tiny/words.txt", "tiny/data/weights.bin"])) == []


def test_files_below_src_are_found_too(project):
    """In the wheel they are at the top."""
    (project / "src").mkdir()
    (project / "tiny").rename(project / "src/tiny")
    (said,) = left_out_warning(project, PACKED)
    assert "leaves out src/tiny/data/weights.bin (ignored by git), src/tiny/words.txt; " in said


def test_options_are_read_and_names_made_canonical(project):
    """What the command line adds counts as well."""
    with (project / "pyproject.toml").open("a") as file:
        file.write('[tool.pexdock]\ncarry = ["NumPy"]\nexclude = ["nvidia_nccl-cu12"]\nlock = "locks/prod.txt"\nwarn_above_mb = 500\n')
    assert ModelOptions.of(project, ["scikit_learn"]) == ModelOptions(
        ("numpy", "scikit-learn"), ("nvidia-nccl-cu12",), "locks/prod.txt", 500
    )


@pytest.mark.parametrize(("line", "said"), [("cary = []", "cary"), ('carry = "numpy"', r"\$.carry"), ("lock = 3", r"\$.lock")])
def test_options_that_are_not_understood_are_refused(project, line, said):
    """A misspelled `carry` must not pass in silence."""
    with (project / "pyproject.toml").open("a") as file:
        file.write(f"[tool.pexdock]\n{line}\n")
    with pytest.raises(BuildFailed, match=rf"\[tool.pexdock\] in .*pyproject.toml is invalid: .*{said}"):
        ModelOptions.of(project)


def write_wheel(path, when, mode, order=1):
    metadata = "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\nRequires-Dist: helper[fast] @ file:///srv/helper ; python_version > '3'\n"
    metadata += "Requires-Dist: numpy (>=2)\n\nWrite to Requires-Dist: me @ example.org\n"
    digest = base64.urlsafe_b64encode(hashlib.sha256(metadata.encode()).digest()).rstrip(b"=").decode()
    members = {
        "tiny/__init__.py": "x = 1\n",
        "tiny-1.0.dist-info/METADATA": metadata,
        "tiny-1.0.dist-info/RECORD": f"tiny-1.0.dist-info/METADATA,sha256={digest},{len(metadata)}\ntiny-1.0.dist-info/RECORD,,\n",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in list(members.items())[::order]:
            info = zipfile.ZipInfo(name, when)
            info.external_attr = mode << 16
            archive.writestr(info, content)


def test_a_wheel_depends_neither_on_time_nor_on_umask(tmp_path):
    """The same files make the same wheel; the executable bit stays."""
    for name, when, mode, order in (("a", (2026, 1, 1, 0, 0, 0), 0o100644, 1), ("b", (2027, 2, 2, 2, 2, 2), 0o100600, -1)):
        write_wheel(tmp_path / name, when, mode, order)
        normalize_wheel(tmp_path / name)
    write_wheel(tmp_path / "c", (2026, 1, 1, 0, 0, 0), 0o100700)
    normalize_wheel(tmp_path / "c")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with zipfile.ZipFile(tmp_path / "c") as archive:
        assert {member.external_attr >> 16 & 0o777 for member in archive.infolist()} == {0o755}


def test_addresses_leave_the_requirements_of_a_wheel_and_its_record_stays_true(tmp_path):
    """Extras and markers stay, and so does text; a wheel without addresses is not copied."""
    wheel = tmp_path / "tiny-1.0-py3-none-any.whl"
    write_wheel(wheel, (2026, 1, 1, 0, 0, 0), 0o100644)
    plain = without_links(wheel, tmp_path / "plain")
    assert list(map(str, read_wheel(plain).requires)) == ['helper[fast]; python_version > "3"', "numpy>=2"]
    with zipfile.ZipFile(plain) as archive:
        metadata = archive.read("tiny-1.0.dist-info/METADATA")
        assert metadata.endswith(b"\n\nWrite to Requires-Dist: me @ example.org\n")
        record = {
            name: (digest, size) for name, digest, size in csv.reader(archive.read("tiny-1.0.dist-info/RECORD").decode().splitlines())
        }
    digest, size = record["tiny-1.0.dist-info/METADATA"]
    assert base64.urlsafe_b64decode(digest.removeprefix("sha256=") + "=") == hashlib.sha256(metadata).digest()
    assert int(size) == len(metadata)
    assert without_links(plain, tmp_path / "again") == plain
    assert [path.name for path in (tmp_path / "plain").iterdir()] == [wheel.name]
