"""Files that are in dist/ more than once, or change faster than they are scanned: the last content of a name counts."""

import pytest

from supervisor_harness import Supervised
from tinypex import times, write_tiny


@pytest.fixture
def supervised(tmp_path):
    supervised = Supervised(tmp_path)
    write_tiny(supervised.dist / "tiny.pex", "tiny")
    return supervised


def content(folder, factor, padding=0, version="0.1.0"):
    """Returns the bytes of a pex whose model multiplies; only the bytes tell which one it is."""
    module = times(factor, "/tiny") + (f"\n    # {'x' * padding}" if padding else "")
    return write_tiny(folder / "aside.pex", "tiny", module=module, version=version).read_bytes()


def put(supervised, tmp_path, what, name="tiny.pex"):
    (tmp_path / "whole").write_bytes(what)
    (tmp_path / "whole").rename(supervised.dist / name)


def is_being_copied(cache):
    """Returns whether part of a pex has been read, but not all of it."""
    try:
        return any(part.stat().st_size for part in cache.rglob("*.part"))
    except FileNotFoundError:
        return False


def test_content_that_arrives_while_the_previous_is_verified_serves(supervised, tmp_path):
    """The first content, which is shorter, is ready while the second is being verified."""
    for name, factor, size in (("first", 5, 80_000_000), ("second", 7, 250_000_000)):
        (tmp_path / name).write_bytes(content(tmp_path, factor, size))
    supervised.settings["stable_for_s"] = 0.05
    with supervised:
        (tmp_path / "first").rename(supervised.dist / "tiny.pex")
        supervised.until(lambda: is_being_copied(tmp_path / "cache") or supervised.predictions("/tiny") == [15])  # it may be quick
        (tmp_path / "second").rename(supervised.dist / "tiny.pex")
        supervised.until(lambda: supervised.predictions("/tiny") == [21])


def test_a_file_that_gets_its_old_content_back_serves_as_before(supervised, tmp_path):
    """Known content comes back under its name, after other content."""
    before = (supervised.dist / "tiny.pex").read_bytes()
    with supervised:
        put(supervised, tmp_path, content(tmp_path, 5, version="0.2.0"))
        supervised.until(lambda: supervised.predictions("/tiny") == [15])
        put(supervised, tmp_path, before)
        supervised.until(lambda: supervised.predictions("/tiny") == [6])


def test_a_file_with_the_content_of_another_has_only_that(supervised, tmp_path):
    """A newer version is overwritten with the content of the previous one, which lies beside it."""
    newer = supervised.dist / "newer.pex"
    with supervised:
        newer.write_bytes(content(tmp_path, 5, version="0.2.0"))
        supervised.until(lambda: supervised.predictions("/tiny") == [15])
        put(supervised, tmp_path, (supervised.dist / "tiny.pex").read_bytes(), "newer.pex")
        supervised.until(lambda: supervised.predictions("/tiny") == [6])


def test_content_with_two_names_stays_as_long_as_one_of_them(supervised, tmp_path):
    """A standby that has lost one of its two names lives by the other."""
    path = supervised.dist / "tiny.pex"
    with supervised:
        put(supervised, tmp_path, content(tmp_path, 5, version="0.2.0"), "newer.pex")
        supervised.until(lambda: supervised.predictions("/tiny") == [15])
        put(supervised, tmp_path, path.read_bytes(), "twin.pex")
        supervised.until(lambda: "twin.pex: has the same content as tiny 0.1.0" in supervised.err.read_text())
        path.unlink()
        supervised.until(lambda: [each["version"] for each in supervised.releases("twin.pex")] == ["0.1.0"])
        assert "is no longer in dist/" not in str(supervised.release("twin.pex")["warnings"])
