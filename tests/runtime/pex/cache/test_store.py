"""The supervisor's store: admitted copies, and venvs that workers start from."""

import json
import os
import shutil
import subprocess
import sys
import threading

import pytest

from base.errors import PexRefused
from handmade_pexes import Wheel, base_stamp, model, sdk, write_pex
from runtime.pex.cache.store import PexCache
from runtime.pex.locks import lock_folder
from tinypex import ROOT
from waiting import until


@pytest.fixture
def store(tmp_path):
    store = PexCache(tmp_path / "cache")
    yield store
    store.close()


@pytest.fixture
def base(tmp_path, store):
    worker = {"base/__init__.py": "", "base/__main__.py": "import iris, numpy, sys; print(iris.said, numpy.__file__, sys.path)"}
    files = {"numpy/__init__.py": "", "google/of_base.py": ""}
    pex = write_pex(tmp_path / "base-0.1.0.pex", sdk(files=worker), Wheel("numpy", "2.4", files=files), stamp=base_stamp())
    return store.unpack_base(pex)


def iris(said="one", **kwargs):
    return model(files={"iris/__init__.py": f"said = {said!r}"}, **kwargs)


def run(command, code=None):
    words = command if code is None else [command[0], "-I", "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("nested", [False, True])
def test_a_worker_starts_with_the_model_and_its_base(tmp_path, store, base, nested):
    """However the pex was built, the command runs `base`, which imports the model and the packages of its base."""
    admitted = store.admit(write_pex(tmp_path / "iris.pex", iris(), nested=nested))
    said = run(store.worker_command(admitted, base))
    assert said.startswith(f"one {base.folder}/.deps/numpy-2.4")


def test_nothing_of_the_file_runs_before_the_worker_does(tmp_path, store, base):
    """Its `__main__.py` would end with an error, its module would leave a mark."""
    marker = tmp_path / "marker"
    loud = model(files={"iris/__init__.py": f"said = open({str(marker)!r}, 'w').name"})
    command = store.worker_command(store.admit(write_pex(tmp_path / "iris.pex", loud)), base)
    assert not marker.exists()
    assert run(command).startswith(str(marker))
    assert marker.exists()


def test_what_the_model_carries_wins(tmp_path, store, base):
    """Its modules, its metadata; packages that share a namespace with base's stay whole."""
    own = Wheel("numpy", "1.26", files={"numpy/__init__.py": "own = True", "google/of_model.py": ""})
    command = store.worker_command(store.admit(write_pex(tmp_path / "iris.pex", iris(), own)), base)
    code = "import numpy, importlib.metadata as m, google.of_base, google.of_model; print(numpy.own, m.version('numpy'))"
    assert run(command, code) == "True 1.26"


def test_sources_outside_of_wheels_are_found(tmp_path, store, base):
    """`pex -D` puts modules beside the wheels."""
    command = store.worker_command(store.admit(write_pex(tmp_path / "iris.pex", iris(), sources={"extra/deep.py": "x = 7"})), base)
    assert run(command, "import extra.deep; print(extra.deep.x)") == "7"


def test_a_release_on_two_bases_gets_two_venvs(tmp_path, store, base):
    """The release is unpacked once; which base it finds is decided by the command."""
    other = store.unpack_base(write_pex(tmp_path / "base-0.2.0.pex", sdk("0.2.0", files={"base/__init__.py": "new = True"})))
    admitted = store.admit(write_pex(tmp_path / "iris.pex", iris()))
    old, new = store.worker_command(admitted, base), store.worker_command(admitted, other)
    assert run(new, "import base; print(base.new)") == "True"
    assert run(old, "import base; print(hasattr(base, 'new'))") == "False"


def test_the_command_is_the_same_each_time(tmp_path, store, base):
    """Neither a restart of a worker nor a new supervisor makes anything anew."""
    pex = write_pex(tmp_path / "iris.pex", iris())
    admitted = store.admit(pex)
    first = store.worker_command(admitted, base)
    venv = base.folder.joinpath(first[0]).parent.parent
    made = venv.stat().st_mtime_ns
    again = PexCache(tmp_path / "cache")
    assert again.worker_command(again.admit(pex), again.unpack_base(base.pexfile.path)) == first
    again.close()
    assert venv.stat().st_mtime_ns == made


def test_the_copy_is_what_counts(tmp_path, store, base):
    """A file that is replaced after its admission changes nothing for the release."""
    pex = write_pex(tmp_path / "iris.pex", iris("one"))
    admitted = store.admit(pex)
    write_pex(pex, iris("two"))
    assert run(store.worker_command(admitted, base)).startswith("one")
    assert store.admit(pex).sha256 != admitted.sha256


def test_a_damaged_file_is_refused_and_leaves_nothing(tmp_path, store, base):
    """`admit` accepts any file; unpacking finds the damage, and may be tried again."""
    pex = write_pex(tmp_path / "iris.pex", iris("0123456789" * 50))
    pex.write_bytes(pex.read_bytes()[:-300])
    for _ in range(2):
        with pytest.raises(PexRefused, match=r"iris\.pex"):
            store.worker_command(store.admit(pex), base)
    assert not list((tmp_path / "cache/releases").rglob("venv"))


def test_a_missing_file_is_refused(tmp_path, store):
    """The file was removed between the listing and the copy."""
    with pytest.raises(PexRefused, match=r"gone\.pex cannot be copied"):
        store.admit(tmp_path / "gone.pex")
    assert not list((tmp_path / "cache/releases").glob("*.part"))


def test_a_model_is_no_base(tmp_path, store):
    """The message names it."""
    with pytest.raises(PexRefused, match="contains the model iris"):
        store.unpack_base(write_pex(tmp_path / "base-9.pex", iris()))


def test_releases_that_are_neither_needed_nor_held_are_evicted(tmp_path, store):
    """Another supervisor on the same cache keeps its releases."""
    other = PexCache(tmp_path / "cache")
    wanted, unwanted, others = (write_pex(tmp_path / f"{word}.pex", iris(word)) for word in ("a", "b", "c"))
    wanted, unwanted, others = store.admit(wanted), store.admit(unwanted), other.admit(others)
    store.evict({wanted.sha256}, 0)
    assert [admitted.path.exists() for admitted in (wanted, unwanted, others)] == [True, False, True]
    other.close()
    store.evict({wanted.sha256}, 0)
    assert not others.path.exists()
    assert sorted(entry.name for entry in (tmp_path / "cache/releases").iterdir()) == [wanted.sha256, f"{wanted.sha256}.used"]


def test_unused_bases_are_kept_within_a_limit(tmp_path, store, base):
    """Those used last are kept; a base that is needed or held stays, whatever its size."""
    other = PexCache(tmp_path / "cache")
    versions = ("0.0.1", "0.0.2", "0.0.3")
    old, held, new = (other.unpack_base(write_pex(tmp_path / f"{word}.pex", sdk(word, files={"base/x": word}))) for word in versions)
    for age, each in enumerate((base, held, old, new)):
        os.utime(each.folder, (age, age))
    other.close()
    third = PexCache(tmp_path / "cache")
    third.unpack_base(held.pexfile.path)
    os.utime(held.folder, (1, 1))
    files = (path.lstat() for each in (base, new) for path in each.folder.rglob("*") if path.is_symlink() or not path.is_dir())
    store.evict({base.sha256}, sum(stat.st_blocks * 512 for stat in files))
    assert [each.folder.exists() for each in (base, held, old, new)] == [True, True, False, True]
    store.evict({base.sha256}, 0)
    assert [each.folder.exists() for each in (base, held, old, new)] == [True, True, False, False]
    third.close()
    store.evict(set(), 0)
    assert list((tmp_path / "cache/bases").iterdir()) == []


def test_leftovers_of_killed_processes_are_removed(tmp_path, store):
    """Half-made and half-removed folders, locks of what is gone, copies that nobody writes to, digests of files that are gone."""
    releases = tmp_path / "cache/releases"
    for name in (f"{'a' * 64}.gone/deep", f"{'b' * 64}.part/deep"):
        (releases / name).mkdir(parents=True)
    for name in (f"{'a' * 64}.used", f"{'c' * 64}.lock", "old.part", "new.part"):
        (releases / name).write_text("")
    os.utime(releases / "old.part", (0, 0))
    (tmp_path / "cache/digests").mkdir()
    (tmp_path / "cache/digests/note").write_text(json.dumps({"path": str(tmp_path / "gone.pex"), "key": [], "sha256": ""}))
    with lock_folder(releases / ("d" * 64), str):  # somebody is at work
        (releases / f"{'d' * 64}.part").mkdir()
        store.evict(set(), 0)
        assert sorted(entry.name for entry in releases.iterdir()) == [f"{'d' * 64}.lock", f"{'d' * 64}.part", "new.part"]
    assert list((tmp_path / "cache/digests").iterdir()) == []


def test_an_admission_during_an_eviction_keeps_its_files(tmp_path, store):
    """Another process evicts everything that no process holds, again and again, while a few contents are admitted."""
    files = [write_pex(tmp_path / f"{word}.pex", iris(word)) for word in "abc"]
    releases, over = tmp_path / "cache/releases", threading.Event()

    def sweep():
        other = PexCache(tmp_path / "cache")
        while not over.is_set():
            other.evict(set(), 0)

    sweeping = threading.Thread(target=sweep)
    sweeping.start()
    try:
        for _ in range(50):
            for file in files:
                assert store.admit(file).path.read_bytes() == file.read_bytes()
            store.close()
            until(lambda: all(len(path.name) != 64 for path in releases.iterdir()), "what nobody holds is not swept")
            assert not list(releases.glob("*.part"))
    finally:
        over.set()
        sweeping.join()


def test_processes_that_start_a_release_at_once_share_one_unpacking(tmp_path, base):
    """Four of them get the same command, and each of them can run it."""
    pex = write_pex(tmp_path / "iris.pex", iris())
    code = f"""
from pathlib import Path
from runtime.pex.cache.store import PexCache
store = PexCache(Path({str(tmp_path / "cache")!r}))
base = store.unpack_base(Path({str(base.pexfile.path)!r}))
command = store.worker_command(store.admit(Path({str(pex)!r})), base)
home = Path(command[0]).parent.parent
print(home, home.stat().st_ino, (home.parent.parent / "files").stat().st_ino)
"""
    command = [sys.executable, "-c", code]
    children = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = {child.communicate(timeout=50)[0] for child in children}
    assert [child.returncode for child in children] == [0] * 4
    assert len(said) == 1
    assert run([f"{said.pop().split()[0]}/bin/python"], "import iris; print(iris.said)") == "one"


def test_what_is_removed_is_made_again_from_the_same_content_only(tmp_path, store, base):
    """A file with other content is refused and leaves nothing; what is left of a folder that was removed in part is not trusted."""
    pex, base_pex = write_pex(tmp_path / "iris.pex", iris()), base.pexfile.path
    admitted = store.admit(pex)
    first = store.worker_command(admitted, base)
    assert store.restore_release(admitted, pex, base) == admitted

    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(PexRefused, match=r"gone\.pex cannot be read: No such file or directory"):
        store.restore_base(base, tmp_path / "gone.pex")
    with pytest.raises(PexRefused, match=r"iris\.pex has other content now"):
        store.restore_base(base, pex)
    with pytest.raises(PexRefused, match=r"base-0\.1\.0\.pex has other content now"):
        store.restore_release(admitted, base_pex, base)
    assert {entry.suffix for entry in tmp_path.glob("cache/*/*") if entry.parent.name != "digests"} == {".used"}
    store.restore_base(base, base_pex)
    assert store.restore_release(admitted, pex, base) == admitted
    assert run(first).startswith("one")

    (folder,) = admitted.path.parent.glob("files/deps/*/iris")
    shutil.rmtree(folder)
    admitted.path.unlink()
    moved = pex.rename(tmp_path / "moved.pex")
    assert store.restore_release(admitted, moved, base).path == admitted.path.with_name("moved.pex")
    assert run(first).startswith("one")
