"""Everything that can be wrong with how a file comes into dist/, with a real supervisor: serving goes on, and every error is named."""

import os
import shutil
import subprocess

import pytest

from supervisor_harness import Supervised
from tinypex import times, write_linked_base, write_tiny


@pytest.fixture
def supervised(tmp_path):
    supervised = Supervised(tmp_path)
    write_tiny(supervised.dist / "tiny.pex", "tiny")
    return supervised


def whole(folder, name="late", **kwargs):
    """Returns the bytes of a pex."""
    return write_tiny(folder / "aside.pex", name, **kwargs).read_bytes()


def test_a_file_that_grows_slowly_is_released_once_it_is_closed(supervised, tmp_path):
    """It is not released before, although it does not change for longer than a file has to."""
    content = whole(tmp_path)
    supervised.settings["stable_for_s"] = 0.05
    with supervised:
        with (supervised.dist / "late.pex").open("wb") as file:
            for part in (content[:100], content[100:500], content[500:]):
                file.write(part)
                file.flush()
                write_tiny(supervised.dist / "probe.pex", "probe", module=times(len(part), "/probe"))
                supervised.until(lambda part=part: supervised.predictions("/probe") == [len(part) * 3])
                assert supervised.releases("late.pex") == []
        supervised.until_state("late.pex", "ready")
    assert "late.pex: refused" not in supervised.err.read_text()


def test_an_incomplete_file_is_refused_and_the_complete_one_serves(supervised, tmp_path):
    """The copy is killed halfway, and then made again under the same name in the same file."""
    content = whole(tmp_path)
    with supervised:
        (supervised.dist / "late.pex").write_bytes(content[: len(content) // 2])
        assert "truncated" in supervised.until_state("late.pex", "refused")["reason"]
        (supervised.dist / "late.pex").write_bytes(content)
        supervised.until_state("late.pex", "ready")
        supervised.until(lambda: len(supervised.releases("late.pex")) == 1)
        assert [supervised.predictions(path) for path in ("/late", "/tiny")] == [[6], [6]]


@pytest.mark.parametrize("way", ["in place", "renamed in", "another folder"])
def test_other_content_of_the_same_name_and_version_is_a_new_release(supervised, tmp_path, way):
    """It is recognized by its digest, rolled out like a newer version, and shown in the log and in `pexdock models`."""
    path = supervised.dist / "tiny.pex"
    with supervised:
        before = supervised.release("tiny.pex")
        content = whole(tmp_path, "tiny", module=times(5, "/tiny"))
        match way:
            case "in place":
                path.write_bytes(content)
            case "renamed in":
                (tmp_path / "aside.pex").rename(path)
            case "another folder":
                (tmp_path / "new").mkdir()
                (tmp_path / "new/tiny.pex").write_bytes(content)
                shutil.copy(supervised.dist / "base.pex", tmp_path / "new")
                supervised.dist.rename(tmp_path / "old")
                (tmp_path / "new").rename(supervised.dist)
        supervised.until(lambda: supervised.predictions("/tiny") == [15])
        supervised.until(lambda: [each["state"] for each in supervised.releases("tiny.pex")] == ["standby", "ready"])
        after = supervised.releases("tiny.pex")[1]
        assert (before["version"], after["version"]) == ("0.1.0", "0.1.0")
        assert before["sha256"] != after["sha256"]
        now, then = (f"tiny 0.1.0 with digest {each['sha256'][:8]}" for each in (after, before))
        assert f"tiny.pex: {now} now, another release than {then} before" in supervised.err.read_text()
        command = supervised.command("models")
        printed = subprocess.run(command, env=supervised.environment, check=True, stdout=subprocess.PIPE, text=True).stdout
        assert after["sha256"][:8] in printed


def test_a_copy_of_the_base_delays_no_model(supervised, tmp_path):
    """The model arrives with the copy and is verified first, so that it waits for a base that turns out to be there already.

    The copy is forgotten, also while another model waits for a base that never arrives.
    """
    write_tiny(supervised.dist / "never.pex", "never", built_on="9.9.9")
    base = write_linked_base(supervised.dist / "base.pex", more={"padding.txt": "x" * 200_000_000})
    with supervised:
        shutil.copy(base, tmp_path / "again.pex")
        (tmp_path / "again.pex").rename(base)
        write_tiny(supervised.dist / "late.pex", "late")
        supervised.until_state("late.pex", "ready")
        supervised.until(lambda: [each["state"] for each in supervised.releases("base.pex")] == ["ready"])
        assert [supervised.predictions(path) for path in ("/late", "/tiny")] == [[6], [6]]


def test_an_unreadable_file_is_refused_until_it_can_be_read(supervised, tmp_path):
    """An operator who copies as root and forgets the mode sees the reason, and `chmod` is enough."""
    write_tiny(supervised.dist / "late.pex", "late").chmod(0)
    if os.getuid() == 0:
        unprivileged(supervised)
    with supervised:
        assert "Permission denied" in supervised.until_state("late.pex", "refused")["reason"]
        (supervised.dist / "late.pex").chmod(0o600)
        supervised.until_state("late.pex", "ready")
        supervised.until(lambda: len(supervised.releases("late.pex")) == 1)


def unprivileged(supervised):
    """Starts it as a root user for whom file modes hold, as for everybody else."""
    plain = supervised.command
    away = "-dac_override,-dac_read_search"
    supervised.command = lambda *words: ["setpriv", f"--inh-caps={away}", f"--bounding-set={away}", *plain(*words)]


def test_a_file_that_vanishes_before_it_is_verified_is_forgotten(supervised, tmp_path):
    """It vanishes before it is stable, and in the middle of its verification."""
    content = whole(tmp_path, module=times(2, "/late") + f"\n# {'x' * 200_000_000}")
    with supervised:
        (supervised.dist / "brief.pex").write_bytes(content)
        (supervised.dist / "brief.pex").unlink()
        path = supervised.dist / "late.pex"
        path.write_bytes(content)
        supervised.until_state("late.pex", "verifying")
        path.unlink()
        supervised.until(lambda: supervised.releases("late.pex") == [])
        write_tiny(supervised.dist / "after.pex", "after")
        supervised.until_state("after.pex", "ready")
        assert {each["file"] for each in supervised.state()["releases"]} == {"base.pex", "tiny.pex", "after.pex"}
    assert "brief.pex: found" not in supervised.err.read_text()


def test_entries_that_are_no_files_delay_nobody(supervised, tmp_path):
    """A folder, a FIFO, a dangling link and a name with a line feed are named in the log, and files beside them serve."""
    (supervised.dist / "folder.pex").mkdir()
    os.mkfifo(supervised.dist / "fifo.pex")
    (supervised.dist / "dangling.pex").symlink_to("late.pex")
    write_tiny(supervised.dist / "line\nfeed.pex", "forged")
    with supervised:
        assert supervised.predictions("/tiny") == [6]
        assert {each["file"] for each in supervised.state()["releases"]} == {"base.pex", "tiny.pex"}
        (tmp_path / "late.pex").write_bytes(whole(tmp_path))
        (tmp_path / "late.pex").rename(supervised.dist / "late.pex")
        supervised.until(lambda: supervised.predictions("/late") == [6])
        supervised.until(lambda: "has the same content as late 0.1.0" in supervised.err.read_text())
    said = supervised.err.read_text()
    for name in ("'folder.pex'", "'fifo.pex'", "'dangling.pex'", r"'line\nfeed.pex'"):
        assert f"{name} is ignored" in said


def test_a_symbolic_link_is_followed_and_its_change_is_a_new_file(supervised, tmp_path):
    """Operators who keep all versions elsewhere deploy this way."""
    for version, factor in (("one", 3), ("two", 7)):
        write_tiny(tmp_path / version / "any.pex", "linked", module=times(factor, "/linked"))
    (tmp_path / "current").symlink_to("one")
    (supervised.dist / "linked.pex").symlink_to(tmp_path / "current/any.pex")
    with supervised:
        assert supervised.predictions("/linked") == [9]
        (tmp_path / "next").symlink_to("two")
        (tmp_path / "next").rename(tmp_path / "current")
        supervised.until(lambda: supervised.predictions("/linked") == [21])
        (tmp_path / "current").unlink()
        supervised.until(lambda: "is no longer in dist/" in str(supervised.until_state("linked.pex", "ready").get("warnings")))
        assert supervised.predictions("/linked") == [21]


def test_a_dist_folder_that_is_removed_stops_nothing(supervised, tmp_path):
    """Something else takes its place for a while, and then a new folder."""
    with supervised:
        (tmp_path / "file").write_text("")
        supervised.dist.rename(tmp_path / "away")
        put_in_place(tmp_path / "file", supervised.dist)
        supervised.until(lambda: "retrying every 2 s" in supervised.err.read_text())
        assert supervised.predictions("/tiny") == [6]
        supervised.dist.unlink()
        (tmp_path / "away").rename(supervised.dist)
        write_tiny(supervised.dist / "late.pex", "late")
        supervised.until(lambda: supervised.predictions("/late") == [6])
        assert supervised.predictions("/tiny") == [6]


def put_in_place(file, folder):
    """Puts a folder in place. A missing one is created as soon as that is noticed, so it may have to be removed once more."""
    while True:
        try:
            file.rename(folder)
            return
        except IsADirectoryError:
            folder.rmdir()
