"""The cache folder of a real supervisor: filled in advance on request, and free of what is gone."""

import subprocess

import pytest

from supervisor_harness import Supervised
from tinypex import SDK_VERSION, times, write_tiny


@pytest.fixture
def supervised(tmp_path):
    return Supervised(tmp_path, cache_max_bytes=0)


def entries(supervised, folder):
    """Returns the folders of releases or bases, and all other names beside them that belong to none."""
    names = {entry.name for entry in (supervised.settings["cache_path"] / folder).iterdir()}
    folders = {name for name in names if "." not in name}
    return folders, {name for name in names if name.partition(".")[0] not in folders}


def test_a_replaced_release_leaves_nothing_in_the_cache(supervised):
    """Neither its copy, its unpacked folder, nor a lock is left, except of the previous release, which a rollback needs."""
    with supervised:
        for factor in range(2, 6):
            write_tiny(supervised.dist / "tiny.pex", "tiny", module=times(factor, "/tiny"))
            supervised.until(lambda factor=factor: supervised.predictions("/tiny") == [3 * factor])
        known = {each["sha256"] for each in supervised.until(lambda: last_two(supervised))}
        supervised.until(lambda: entries(supervised, "releases") == (known, set()))
        assert len(entries(supervised, "bases")[0]) == 1
        assert supervised.predictions("/tiny") == [15]


def last_two(supervised):
    """Returns the releases of the file once no more than two are known."""
    found = supervised.releases("tiny.pex")
    return found if len(found) <= 2 else None


def test_a_cache_can_be_filled_in_advance(supervised):
    """`pexdock unpack` does everything that needs no process, so that the start unpacks nothing. It names a pex that cannot be unpacked."""
    write_tiny(supervised.dist / "tiny.pex", "tiny")

    def unpack():
        return subprocess.run(supervised.command("unpack"), env=supervised.environment, capture_output=True, text=True)

    done = unpack()
    said = [f"base.pex: base {SDK_VERSION} is unpacked", "tiny.pex: tiny 0.1.0 is unpacked"]
    assert (done.returncode, done.stdout.splitlines()) == (0, said)
    made = {path: path.stat().st_mtime_ns for path in supervised.settings["cache_path"].rglob("pyvenv.cfg")}
    assert len(made) == 2
    with supervised:
        assert supervised.predictions("/tiny") == [6]
    assert {path: path.stat().st_mtime_ns for path in supervised.settings["cache_path"].rglob("pyvenv.cfg")} == made
    assert "unpacking" not in supervised.err.read_text()
    (supervised.dist / "bad.pex").write_bytes(b"no pex")
    write_tiny(supervised.dist / "baseless.pex", "baseless", built_on="9.9.9")
    done = unpack()
    assert done.returncode == 1
    assert "bad.pex: it is not a zip file" in done.stderr
    assert "base-9.9.9.pex, which is missing" in done.stderr
    assert "tiny.pex: tiny 0.1.0 is unpacked" in done.stdout
