"""Unpacking a base: once, whole or not at all, compiled, and safe among processes."""

import contextlib
import json
import os
import subprocess
import sys
import sysconfig
import threading
import time
import zipfile
from pathlib import Path

import pytest

from handmade_pexes import Wheel, sdk, write_pex
from runtime import atomic_file
from runtime.pex import locks, unpack
from runtime.pex.locks import hold_folder, remove_unused_folder
from runtime.pex.unpack import UnpackFailed, base_folder, file_sha256, venv_python
from waiting import until

SILENT = lambda _line: None  # noqa: E731 - progress is not what these tests are about


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def write_base(path, text="one", **kwargs):
    return write_pex(
        path, sdk(files={"base/__init__.py": f"said = {text!r}\ndef where():\n    raise RuntimeError\n"}), Wheel("attrs"), **kwargs
    )


def said_by(folder):
    command = [venv_python(folder), "-I", "-c", "import base; print(base.said)"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_an_unpacked_base_is_a_loose_pex_and_an_interpreter(tmp_path, cache):
    """PEX_PATH may name the folder, and its interpreter imports the packages of the base and nothing else."""
    folder = unpack.unpack_base(write_base(tmp_path / "base.pex"), cache, SILENT)
    assert {"PEX-INFO", "__main__.py", ".deps", ".bootstrap", "venv"} <= {entry.name for entry in folder.iterdir()}
    assert said_by(folder) == "one"
    command = [venv_python(folder), "-I", "-c", "import msgspec"]
    assert b"No module named 'msgspec'" in subprocess.run(command, capture_output=True, check=False).stderr


def test_every_module_is_compiled_with_its_final_path(tmp_path, cache):
    """Times are not checked at imports; a file that does not compile is no obstacle."""
    broken = Wheel("attrs", files={"attrs/__init__.py": "", "attrs/template.py": "def {{ name }}:\n"})
    folder = unpack.unpack_base(write_pex(tmp_path / "base.pex", sdk(files={"base/__init__.py": "1 / 0\n"}), broken), cache, SILENT)
    (compiled,) = folder.glob(".deps/pexdock*/base/__pycache__/*.pyc")
    assert compiled.read_bytes()[4:8] == b"\x01\x00\x00\x00"  # hash-based, not checked (PEP 552)
    said = subprocess.run([venv_python(folder), "-I", "-c", "import base"], capture_output=True, text=True, check=False).stderr
    assert f'File "{folder}/.deps/pexdock-0.1.0-py3-none-any.whl/base/__init__.py", line 1' in said


def test_a_second_call_does_nothing(tmp_path, cache):
    """It returns the same folder and reports no progress."""
    pex = write_base(tmp_path / "base.pex")
    folder = unpack.unpack_base(pex, cache, SILENT)
    before = {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}
    lines = []
    assert unpack.unpack_base(pex, cache, lines.append) == folder
    assert {path: path.lstat().st_mtime_ns for path in folder.rglob("*")} == before
    assert lines == []


def test_another_content_gets_another_folder(tmp_path, cache):
    """A rebuild has other content under the same path."""
    pex = tmp_path / "base.pex"
    first = unpack.unpack_base(write_base(pex, "one"), cache, SILENT)
    second = unpack.unpack_base(write_base(pex, "two"), cache, SILENT)
    assert [said_by(first), said_by(second)] == ["one", "two"]


def test_executables_stay_executable(tmp_path, cache):
    """Wheels ship programs, and zip files keep their mode in a field that zipfile ignores."""
    pex = write_base(tmp_path / "base.pex")
    with zipfile.ZipFile(pex, "a") as archive:
        member = zipfile.ZipInfo(".deps/attrs-1.0-py3-none-any.whl/tool")
        member.external_attr = 0o100755 << 16
        archive.writestr(member, "#!/bin/sh\n")
    folder = unpack.unpack_base(pex, cache, SILENT)
    assert os.access(folder / ".deps/attrs-1.0-py3-none-any.whl/tool", os.X_OK)
    assert not os.access(folder / "PEX-INFO", os.X_OK)


@pytest.mark.parametrize("name", ["../escaped", "/tmp/escaped", ".deps/../../escaped"])
def test_no_member_leaves_the_folder(tmp_path, cache, name):
    """A path that leads out is refused, and nothing stays."""
    with pytest.raises(UnpackFailed, match="leads out of the folder"):
        unpack.unpack_base(write_base(tmp_path / "base.pex", sources={name: "x"}), cache, SILENT)
    assert not list(tmp_path.rglob("escaped"))
    assert not [entry for entry in (cache / "bases").iterdir() if entry.is_dir()]


def test_a_damaged_base_leaves_nothing_behind(tmp_path, cache):
    """The checksum finds a flipped byte."""
    pex = write_base(tmp_path / "base.pex")
    with zipfile.ZipFile(pex, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr("data.txt", "0123456789")
    pex.write_bytes(pex.read_bytes().replace(b"0123456789", b"0123456788"))
    with pytest.raises(UnpackFailed, match=r"base\.pex"):
        unpack.unpack_base(pex, cache, SILENT)
    assert not [entry for entry in (cache / "bases").iterdir() if entry.is_dir()]


def test_a_base_for_another_python_is_refused_before_it_is_unpacked(tmp_path, cache):
    """The message names both versions."""
    with pytest.raises(UnpackFailed, match=rf"3\.8.*{sysconfig.get_python_version()}"):
        unpack.unpack_base(write_base(tmp_path / "base.pex", constraints=("CPython==3.8.*",)), cache, SILENT)


def test_processes_that_start_at_once_share_one_unpacking(tmp_path, cache):
    """Four processes return the same complete folder, and one of them made it."""
    pex = write_base(tmp_path / "base.pex")
    command = [sys.executable, "-m", "runtime.pex.unpack", pex, cache]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    ended = [(*child.communicate(timeout=60), child.returncode) for child in children]
    assert {(out, code) for out, _, code in ended} == {(f"{base_folder(file_sha256(pex, cache), cache)}\n", 0)}
    assert sum("compiling: 3 modules" in err or "compiling" in err for _, err, _ in ended) == 1


def test_the_compiler_of_a_killed_process_exits(tmp_path, cache):
    """It exits within 2 s although there is work for minutes, since nobody reads its output."""
    slow = "".join(f"def f{number}(a):\n    return [a * {number} for a in range(a) if a]\n" for number in range(1500))
    pex = write_pex(tmp_path / "base.pex", sdk(), Wheel("slow", files={f"slow/module{number}.py": slow for number in range(400)}))
    with subprocess.Popen([sys.executable, "-m", "runtime.pex.unpack", pex, cache], stderr=subprocess.DEVNULL) as process:
        until(lambda: list(cache.rglob("module*.pyc")), "nothing is compiled")
        process.kill()
    assert compilers(cache)
    until(lambda: not compilers(cache), "it goes on", 2)


def compilers(cache):
    """Processes that have this folder in their command."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            command = path.read_bytes()
            found += [path.parent.name] if os.fsencode(cache) in command and b"compileall" in command else []
    return found


def test_leftovers_of_a_killed_process_are_no_obstacle(tmp_path, cache):
    """An incomplete folder has another name than a complete one."""
    pex = write_base(tmp_path / "base.pex")
    folder = base_folder(file_sha256(pex, cache), cache)
    leftover = folder.with_name(f"{folder.name}.part") / ".deps" / "half"
    leftover.parent.mkdir(parents=True)
    leftover.write_text("")
    assert said_by(unpack.unpack_base(pex, cache, SILENT)) == "one"
    assert not list(cache.rglob("half"))


def test_a_venv_of_another_interpreter_is_made_again(tmp_path, cache):
    """The cache outlives an image whose Python moved."""
    pex = write_base(tmp_path / "base.pex")
    folder = unpack.unpack_base(pex, cache, SILENT)
    link = next(path for path in (folder / "venv/bin").iterdir() if path.is_symlink() and path.readlink().is_absolute())
    link.unlink()
    link.symlink_to("/nowhere/python3")
    assert said_by(unpack.unpack_base(pex, cache, SILENT)) == "one"


def test_old_bases_are_removed_and_held_ones_stay(tmp_path, cache):
    """The three used last stay, and every base that a process holds."""
    folders, held = [], None
    for number in range(6):
        folder = unpack.unpack_base(write_base(tmp_path / "base.pex", str(number)), cache, SILENT)
        os.utime(folder, (number, number))
        folders.append(folder)
        if number == 0:
            held = hold_folder(folder)
    assert [folder.is_dir() for folder in folders] == [True, False, False, True, True, True]
    os.close(held)
    assert remove_unused_folder(folders[0])
    assert not folders[0].exists()


def test_a_hold_during_a_removal_waits_for_its_end(tmp_path):
    """Otherwise a process would use a folder that is being removed: a folder that is held is complete, and stays."""
    folder, over, seen = tmp_path / "folder", threading.Event(), []

    def keep_making_and_removing():
        while not over.is_set():
            folder.mkdir(exist_ok=True)
            for number in range(20):
                (folder / str(number)).touch()
            (folder / "whole").touch()
            remove_unused_folder(folder)

    removing = threading.Thread(target=keep_making_and_removing)
    removing.start()
    try:
        while len(seen) < 50:
            held = hold_folder(folder)
            if (folder / "whole").exists():
                seen.append(sum((folder / str(number)).exists() for number in range(20)))
            os.close(held)
    finally:
        over.set()
        removing.join()
    assert seen == [20] * 50
    assert remove_unused_folder(folder)
    assert list(tmp_path.iterdir()) == []


def test_a_cached_digest_is_not_used_after_a_change_of_the_file(tmp_path, cache):
    """With the same size and mtime, the ctime differs."""
    pex = tmp_path / "x"
    pex.write_bytes(b"a" * 100)
    old = time.time() - 3600
    os.utime(pex, (old, old))
    first = file_sha256(pex, cache)
    pex.write_bytes(b"b" * 100)
    os.utime(pex, (old, old))
    assert file_sha256(pex, cache) != first


def test_a_digest_is_cached(tmp_path, cache, monkeypatch):
    """A second call for a file that has not changed for a while reads none of it."""
    pex = tmp_path / "x"
    pex.write_bytes(b"a" * 100)
    monkeypatch.setattr(unpack, "_RACY_NS", -1)  # it was written just now
    first = file_sha256(pex, cache)
    (note,) = (cache / "digests").iterdir()
    assert json.loads(note.read_text())["sha256"] == first
    note.write_text(note.read_text().replace(first, "remembered"))
    assert file_sha256(pex, cache) == "remembered"


def test_the_module_runs_out_of_the_zip(tmp_path, cache):
    """The start script has only Python and the base: it imports these three files from inside the pex."""
    files = {
        "base/__init__.py": "said = 'zip'",
        "runtime/__init__.py": "",
        "runtime/pex/__init__.py": "",
    }
    files |= {module.__name__.replace(".", "/") + ".py": Path(module.__file__).read_text() for module in (atomic_file, locks, unpack)}
    pex = write_pex(tmp_path / "base.pex", sdk(files=files))
    wheel = f"{pex}/.deps/pexdock-0.1.0-py3-none-any.whl"
    code = f"import sys; sys.path.insert(0, {wheel!r}); from runtime.pex.unpack import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code, pex, cache], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert said_by(base_folder(file_sha256(pex, cache), cache)) == "zip"
