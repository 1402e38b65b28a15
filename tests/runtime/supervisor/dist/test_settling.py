"""Which files of dist/ are taken, and when: with a clock and listings of the test's own."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from runtime.pex.names import is_pex_name
from runtime.supervisor.dist.settling import SettlingFiles, Settled, Stat, Vanished

ONE = Stat(1, 10, 10**9)
TWO = Stat(1, 20, 2 * 10**9)


def test_only_pexes_that_are_not_hidden_are_taken():
    """Whoever writes aside in the same folder uses a leading dot or another suffix."""
    assert [name for name in ("a.pex", ".a.pex", "a.pex.part", "a.PEX", "a.txt", ".pex") if is_pex_name(name)] == ["a.pex"]
    registry = SettlingFiles(0.5)
    registry.listing({".a.pex": ONE, "a.txt": ONE}, 0.0)
    assert registry.due() is None


def test_a_file_renamed_in_settles_once_it_stood_still():
    """Not before, and only once."""
    registry = SettlingFiles(0.5)
    registry.closed("a.pex")
    assert registry.listing({"a.pex": ONE}, 10.0) == []
    assert registry.due() == 10.5
    assert registry.listing({"a.pex": ONE}, 10.49) == []
    assert registry.listing({"a.pex": ONE}, 10.5) == [Settled("a.pex")]
    assert registry.due() is None
    assert registry.listing({"a.pex": ONE}, 99.0) == []


def test_a_file_that_is_being_written_is_not_taken_however_long_it_pauses():
    """A slow upload stalls for longer than any settle time."""
    registry = SettlingFiles(0.5)
    registry.opened("a.pex")
    assert registry.listing({"a.pex": ONE}, 0.0) == []
    assert registry.due() is None
    assert registry.listing({"a.pex": ONE}, 1000.0) == []
    registry.closed("a.pex")
    assert registry.listing({"a.pex": TWO}, 1001.0) == []
    assert registry.listing({"a.pex": TWO}, 1001.5) == [Settled("a.pex")]


def test_where_events_were_lost_a_file_that_stands_still_is_whole():
    """Its close may have been among them; nobody would wait for ever for a file that lies there."""
    registry = SettlingFiles(1)
    registry.opened("a.pex")
    assert registry.listing({"a.pex": Stat(1, 1, 1)}, 0) == []
    assert registry.due() is None
    registry.missed()
    assert registry.due() == 1
    assert registry.listing({"a.pex": Stat(1, 1, 1)}, 1) == [Settled("a.pex")]


def test_a_change_starts_the_wait_again():
    """Size, time and inode each count."""
    registry = SettlingFiles(0.5)
    registry.listing({"a.pex": ONE}, 0.0)
    registry.listing({"a.pex": Stat(1, 11, ONE.mtime_ns)}, 0.4)
    registry.listing({"a.pex": Stat(1, 11, ONE.mtime_ns + 1)}, 0.8)
    assert registry.listing({"a.pex": Stat(2, 11, ONE.mtime_ns + 1)}, 1.2) == []
    assert registry.listing({"a.pex": Stat(2, 11, ONE.mtime_ns + 1)}, 1.7) == [Settled("a.pex")]


def test_a_file_replaced_in_place_settles_again():
    """Its name is the same, its content is not."""
    registry = SettlingFiles(0.5)
    registry.listing({"a.pex": ONE}, 0.0)
    registry.listing({"a.pex": ONE}, 1.0)
    assert registry.listing({"a.pex": TWO}, 2.0) == []
    assert registry.listing({"a.pex": TWO}, 2.5) == [Settled("a.pex")]


def test_a_file_that_vanishes_is_reported_if_it_had_settled():
    """Also if it was just being replaced. One that never settled was never there."""
    registry = SettlingFiles(0.5)
    registry.listing({"a.pex": ONE, "b.pex": ONE}, 0.0)
    registry.listing({"a.pex": ONE, "b.pex": ONE}, 1.0)
    registry.listing({"a.pex": ONE, "b.pex": TWO, "c.pex": ONE}, 1.1)
    assert registry.listing({}, 1.2) == [Vanished("a.pex"), Vanished("b.pex")]
    assert registry.due() is None


def test_a_file_that_vanishes_while_it_is_written_does_not_stay_open_for_ever():
    """The next file of that name is another one."""
    registry = SettlingFiles(0.5)
    registry.opened("a.pex")
    registry.listing({"a.pex": ONE}, 0.0)
    registry.listing({}, 1.0)
    registry.listing({"a.pex": TWO}, 2.0)
    assert registry.listing({"a.pex": TWO}, 2.5) == [Settled("a.pex")]


def test_at_the_start_files_that_lie_there_for_long_are_taken_at_once_and_oldest_first():
    """The order of drops decides between two models with one path, so a restart keeps it. A fresh file waits for the rest of its time."""
    registry = SettlingFiles(0.5)
    old = {"b.pex": Stat(1, 1, 1 * 10**9), "a.pex": Stat(2, 1, 2 * 10**9), "c.pex": Stat(3, 1, 1 * 10**9)}
    fresh = {"d.pex": Stat(4, 1, 99_900_000_000), "e.pex": Stat(5, 1, 200_000_000_000)}
    assert registry.first(old | fresh, 7.0, 100 * 10**9) == [Settled("b.pex"), Settled("c.pex"), Settled("a.pex")]
    assert registry.unsettled() == {"d.pex", "e.pex"}
    assert registry.listing(old | fresh, 7.4) == [Settled("d.pex")]
    assert registry.listing(old | fresh, 7.5) == [Settled("e.pex")]


class Folder(RuleBasedStateMachine):
    """A folder in which anything happens, watched by a registry that sees every event but hears of writes only at their end."""

    def __init__(self):
        super().__init__()
        self.registry = SettlingFiles(1.0)
        self.now = 0.0
        self.inode = 0
        self.files = {}
        self.touched = {}
        self.open = set()
        self.taken = {}

    names = st.sampled_from(["a.pex", "b.pex"])

    @rule(name=names)
    def create(self, name):
        if name not in self.files:
            self.inode += 1
            self.files[name], self.touched[name] = Stat(self.inode, 0, 0), self.now
            self.open.add(name)
            self.registry.opened(name)
            self.look()

    @rule(name=names, size=st.integers(0, 3))
    def write(self, name, size):
        if name in self.open:
            stat = self.files[name]
            self.files[name], self.touched[name] = Stat(stat.inode, stat.size + size, int(self.now * 1e9)), self.now

    @rule(name=names)
    def close(self, name):
        if name in self.open:
            self.open.discard(name)
            self.registry.closed(name)
            self.look()

    @rule(name=names, size=st.integers(0, 3))
    def rename_in(self, name, size):
        self.inode += 1
        self.files[name], self.touched[name] = Stat(self.inode, size, 0), self.now
        self.open.discard(name)
        self.registry.closed(name)
        self.look()

    @rule(name=names)
    def remove(self, name):
        if self.files.pop(name, None):
            self.open.discard(name)
            self.look()

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 3.0]))
    def wait(self, seconds):
        end = self.now + seconds
        while (due := self.registry.due()) is not None and due <= end:
            self.now = max(self.now, due)
            self.look()
        self.now = end

    def look(self):
        for event in self.registry.listing(self.files, self.now):
            match event:
                case Settled(name):
                    assert name not in self.open
                    assert self.now >= self.touched[name] + 1.0 - 1e-9
                    assert self.taken.get(name) != self.files[name]
                    self.taken[name] = self.files[name]
                case Vanished(name):
                    assert name not in self.files
                    del self.taken[name]

    @invariant()
    def whatever_stands_still_is_taken_in_the_end(self):
        assert set(self.taken) <= set(self.files)
        for name, stat in self.files.items():
            if name not in self.open and self.now > self.touched[name] + 1.0 + 1e-6 and self.registry.due() is None:
                assert self.taken[name] == stat


Folder.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestFolder = Folder.TestCase
