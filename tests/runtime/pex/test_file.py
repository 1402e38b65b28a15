"""Tests of reading pex files, and of every refusal."""

import os
import zipfile

import pytest

from base.errors import PexRefused
from base.ipc.control import WIRE_VERSION
from handmade_pexes import Wheel, base_stamp, model, model_stamp, sdk, write_pex
from runtime.pex.file import read_pex, read_stamp


def refusal(path):
    with pytest.raises(PexRefused) as caught:
        read_pex(path)
    assert path.name in caught.value.detail
    return caught.value.detail


def test_a_model_is_named_by_the_distribution_with_endpoints(tmp_path):
    """Name, version and endpoints come from that distribution, however many others lie beside it and in whatever order."""
    found = read_pex(write_pex(tmp_path / "x.pex", Wheel("zlib-ng", "3"), model("Iris.Model", version="2.1"), Wheel("attrs", "25")))
    assert (found.kind, found.name, found.version) == ("model", "iris-model", "2.1")
    assert dict(found.endpoints) == {"predict": "Iris.Model:predict"}
    assert found.versions == {"zlib-ng": "3", "iris-model": "2.1", "attrs": "25"}
    assert found.stamp is None


def test_a_pex_of_the_sdk_without_endpoints_is_a_base(tmp_path):
    """It needs no stamp."""
    for stamp in (None, base_stamp("0.2.0")):
        found = read_pex(write_pex(tmp_path / "b.pex", sdk("0.2.0"), Wheel("numpy", "2.4"), stamp=stamp))
        assert (found.kind, found.name, found.version) == ("base", "pexdock", "0.2.0")


def test_a_model_may_carry_the_sdk(tmp_path):
    """A pex that was built by hand may contain all of base, with the real modules `base` and `runtime`."""
    assert read_pex(write_pex(tmp_path / "x.pex", sdk(), model())).kind == "model"


def test_the_stamp_is_read(tmp_path):
    """Everything that a build wrote is read, also by `read_stamp`."""
    path = write_pex(tmp_path / "x.pex", model(), stamp=model_stamp(provided={"numpy": "2.4"}, new_field_of_a_later_version=1))
    stamp = read_pex(path).stamp
    assert stamp == read_stamp(path)
    assert (stamp.base.version, stamp.base.sha256, stamp.wire, stamp.provided) == ("0.1.0", "a" * 64, WIRE_VERSION, {"numpy": "2.4"})


def test_wheels_that_are_packed_whole_are_read_too(tmp_path):
    """`pex --no-pre-install-wheels` nests the wheels."""
    found = read_pex(write_pex(tmp_path / "x.pex", model(), Wheel("attrs", "25"), nested=True))
    assert (found.name, found.versions["attrs"]) == ("iris", "25")


def test_of_several_wheels_of_one_distribution_the_one_for_here_counts(tmp_path):
    """A pex for several platforms contains one wheel for each."""
    foreign = Wheel("native", "1.0", tag="cp311-cp311-win_amd64")
    here = Wheel("native", "1.0", tag="py3-none-any")
    for wheels in ((foreign, here), (here, foreign)):
        assert read_pex(write_pex(tmp_path / "x.pex", model(), *wheels)).distributions["native"].wheel == here.file_name


def test_other_files_are_refused_with_their_kind(tmp_path):
    """An empty file, a text, a truncated file, a folder and a missing file have messages of their own."""
    path = tmp_path / "x.pex"
    path.write_bytes(b"")
    assert "empty" in refusal(path)
    path.write_bytes(b"hello, I am no zip")
    assert "not a zip" in refusal(path)
    whole = write_pex(path, model(files={"iris/__init__.py": "x" * 100_000})).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "truncated" in refusal(path)
    refusal(tmp_path)
    refusal(tmp_path / "missing.pex")


def test_a_named_pipe_is_refused_at_once(tmp_path):
    """To open it would wait for a writer."""
    os.mkfifo(tmp_path / "a.pex")
    with pytest.raises(PexRefused, match=r"a\.pex: it is not a regular file"):
        read_pex(tmp_path / "a.pex")


def test_a_file_truncated_anywhere_is_refused(tmp_path):
    """The error is always a PexRefused."""
    path = tmp_path / "x.pex"
    whole = write_pex(path, model()).read_bytes()
    for size in range(0, len(whole), 37):
        path.write_bytes(whole[:size])
        refusal(path)


def test_a_flipped_byte_is_found(tmp_path):
    """Checksums are compared for every member, not only for those that are read."""
    content = "0123456789" * 10
    path = tmp_path / "x.pex"
    with zipfile.ZipFile(write_pex(path, model()), "a", zipfile.ZIP_STORED) as archive:
        archive.writestr("unread.txt", content)
    data = path.read_bytes().replace(content.encode(), content.replace("5", "6", 1).encode())
    path.write_bytes(data)
    assert "unread.txt is damaged" in refusal(path)
    assert read_pex(path, checksums=False).name == "iris"


def test_a_zip_that_is_not_a_pex_is_refused(tmp_path):
    """It has no PEX-INFO, or an invalid one."""
    path = tmp_path / "x.pex"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "a")
    assert "no PEX-INFO" in refusal(path)
    write_pex(path, model(), info={"distributions": ["iris"]})
    assert "PEX-INFO is invalid" in refusal(path)


def test_a_wrong_stamp_is_refused(tmp_path):
    """The stamp has another kind or name than the content of the file, or is invalid."""
    path = tmp_path / "x.pex"
    assert "its stamp says model roses" in refusal(write_pex(path, model(), stamp=model_stamp("roses")))
    assert "its stamp says base" in refusal(write_pex(path, model(), stamp=base_stamp()))
    assert "no distribution" in refusal(write_pex(path, sdk(), stamp=model_stamp()))
    assert "stamp is invalid" in refusal(write_pex(path, model(), stamp={"kind": "model"}))


def test_a_pex_without_a_model_or_with_two_is_refused(tmp_path):
    """The message says what to add, or names both."""
    path = tmp_path / "x.pex"
    assert '[project.entry-points."pexdock.endpoints"]' in refusal(write_pex(path, Wheel("attrs")))
    assert "iris and roses" in refusal(write_pex(path, model("roses"), model("iris")))


@pytest.mark.parametrize("files", [{"base/__init__.py": ""}, {"runtime.py": ""}, {"base.cpython-311-x86_64-linux-gnu.so": ""}])
def test_a_module_that_would_hide_ours_is_refused(tmp_path, files):
    """Packages, modules and extension modules; in any wheel or outside of wheels."""
    path = tmp_path / "x.pex"
    assert "would hide" in refusal(write_pex(path, model(files=files)))
    assert "attrs contains a top-level module" in refusal(write_pex(path, model(), Wheel("attrs", files=files)))
    assert "would hide" in refusal(write_pex(path, model(), sources=files))


def test_modules_of_these_names_in_packages_are_allowed(tmp_path):
    """Only top-level modules hide ours."""
    files = {"iris/base/__init__.py": "", "iris/runtime.py": "", "base.txt": "", "runtime-1.0.data/x": ""}
    assert read_pex(write_pex(tmp_path / "x.pex", model(files=files), sources={"iris_base/x.py": ""})).name == "iris"


def test_huge_metadata_is_not_read(tmp_path):
    """A METADATA of 8 MB that compresses to 8 kB is refused by name."""
    huge = Wheel("attrs", metadata="Name: attrs\nVersion: 1\n\n" + "x" * 8_000_000)
    assert "METADATA is larger than" in refusal(write_pex(tmp_path / "x.pex", model(), huge))


@pytest.mark.parametrize(
    "metadata", ["Name: attrs\n", "Version: 1\n", "Name: attrs\nVersion: one\n", "Name: a\nVersion: 1\nRequires-Dist: <<\n"]
)
def test_invalid_metadata_is_refused(tmp_path, metadata):
    """All of it is needed to check the model against its base."""
    assert "METADATA" in refusal(write_pex(tmp_path / "x.pex", model(), Wheel("attrs", metadata=metadata)))


def test_a_missing_wheel_is_refused(tmp_path):
    """pex installs the wheels that PEX-INFO lists."""
    listed = {"distributions": {"iris-1.0-py3-none-any.whl": "0", "gone-1.0-py3-none-any.whl": "0"}}
    assert "gone-1.0-py3-none-any.whl" in refusal(write_pex(tmp_path / "x.pex", model(), info=listed))


def test_endpoints_that_are_declared_twice_are_refused(tmp_path):
    """Two entry points have the same name, so neither is meant for certain."""
    twice = model(endpoints=("predict = iris:a", "predict = iris:b"))
    assert "entry points" in refusal(write_pex(tmp_path / "x.pex", twice))
