"""Input files are found by their patterns, and output files appear as a whole."""

import glob
import os

import obstore
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from obstore.store import MemoryStore

from base.errors import NotFound, PexdockError
from runtime.score import places

NAMES = [
    "a.csv",
    "b.csv",
    "ab.parquet",
    ".h.csv",
    "d/a.csv",
    "d/e/a.csv",
    "d/e/b.parquet",
    ".d/a.csv",
    "d/.e/a.csv",
    "x[1].csv",
    "x]1.csv",
    "d/x1.csv",
]
SETS = ["[ab]", "[!a]", "[]x]", "[!]x]", "[+-1]", "[b-a]", "[a", "a]"]
PATTERNS = st.lists(st.sampled_from(["*", "**", "?", "a", "b", ".csv", "/", "d", "e", ".", *SETS]), min_size=1, max_size=7)


@example("*[!a]*")
@given(PATTERNS.map("".join).filter(lambda text: not text.startswith("/") and "//" not in text))
def test_patterns_match_objects_as_they_match_files(tmp_path_factory, pattern):
    """Python's `glob` is the reference."""
    folder = tmp_path_factory.getbasetemp() / "tree"
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    expected = set(glob.glob(pattern, root_dir=folder, recursive=True))  # noqa: PTH207 - the reference
    assert {name for name in NAMES if places._matches(name.split("/"), pattern.split("/"))} == expected & set(NAMES)


def test_a_pattern_gives_paths_below_its_fixed_part(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("in/a/1.csv", "in/2.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert [(file.name, file.relative) for file in places.find_inputs("in/**/*.csv")] == [
        (f"{tmp_path}/in/2.csv", "2.csv"),
        (f"{tmp_path}/in/a/1.csv", "a/1.csv"),
    ]
    assert [file.relative for file in places.find_inputs("in/a/1.csv")] == ["1.csv"]
    with pytest.raises(NotFound, match=r"^in/ is a folder; name files in it, such as 'in/\*.parquet'$"):
        places.find_inputs("in/")
    with pytest.raises(NotFound, match=r"no file matches in/x"):
        places.find_inputs("in/x")
    with pytest.raises(NotFound, match=r"an input is empty"):
        places.find_inputs("")


def test_links_to_folders_are_not_followed_through_any_number_of_folders(tmp_path):
    """A link may lead back up. Links to files, and those to folders that a pattern names one by one, are followed."""
    for name in ("in/a/1.csv", "other/2.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "in" / "a" / "up").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "a" / "up2").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "other").symlink_to(tmp_path / "other")
    (tmp_path / "in" / "3.csv").symlink_to(tmp_path / "other" / "2.csv")
    (tmp_path / "in" / "gone.csv").symlink_to(tmp_path / "gone.csv")

    def found(pattern):
        return [file.relative for file in places.find_inputs(f"{tmp_path}/{pattern}")]

    assert found("in/**/*.csv") == found("in/**") == ["3.csv", "a/1.csv"]
    assert found("in/*/**/*.csv") == ["a/1.csv"]
    assert found("in/*/*.csv") == ["a/1.csv", "other/2.csv"]
    (tmp_path / "link").symlink_to(tmp_path / "in")
    assert found("link/**/1.csv") == ["a/1.csv"]


def test_a_file_that_changes_is_noticed(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("one")
    (file,) = places.find_inputs(str(path))
    file.require_unchanged()
    os.utime(path, ns=(0, 0))
    with pytest.raises(PexdockError, match=r"a.csv was changed while it was read"):
        file.require_unchanged()
    path.unlink()
    with pytest.raises(PexdockError, match=r"a.csv was removed while it was read"):
        file.require_unchanged()


def test_an_object_that_is_replaced_is_not_read_on():
    """Nor are parts of both contents ever mixed."""
    store = MemoryStore()
    obstore.put(store, "a", b"0123456789")
    file = places._object_file(store, "memory:///a", obstore.head(store, "a"))
    content = file.open()
    assert (content.read(4), content.seek(-2, os.SEEK_END), content.read(10), content.read(1)) == (b"0123", 8, b"89", b"")
    obstore.put(store, "a", b"abcdefghij")
    content.seek(0)
    with pytest.raises(PexdockError):
        content.read(4)
    with pytest.raises(PexdockError, match=r"was changed"):
        file.require_unchanged()


def test_a_file_is_published_as_a_whole_and_leftovers_of_a_killed_run_are_removed(tmp_path):
    leftover = tmp_path / "out" / places.ASIDE / "half"
    leftover.parent.mkdir(parents=True)
    leftover.touch()
    output = places.open_output(str(tmp_path / "out"), tmp_path)
    assert not leftover.exists()
    aside = output.aside / "new"
    aside.write_bytes(b"all")
    assert output.sizes() == {}
    output.publish(aside, "a/b/c.csv")
    assert (output.sizes(), output.read("a/b/c.csv"), aside.exists()) == ({"a/b/c.csv": 3}, b"all", False)
