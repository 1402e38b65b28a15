"""Tests of when files in dist/ count as complete, with a clock and listings of the test's own."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from runtime.pex.names import is_pex_name
from runtime.supervisor.dist.stability import StabilityTracker, FileStable, FileStat, FileRemoved

ONE = FileStat(1, 10, 10**9)
TWO = FileStat(1, 20, 2 * 10**9)


def test_only_pexes_that_are_not_hidden_count():
    """A temporary file in the same folder has a leading dot or another suffix."""
    assert [name for name in ("a.pex", ".a.pex", "a.pex.part", "a.PEX", "a.txt", ".pex") if is_pex_name(name)] == ["a.pex"]
    registry = StabilityTracker(0.5)
    registry.update({".a.pex": ONE, "a.txt": ONE}, 0.0)
    assert registry.next_check_s() is None


def test_a_renamed_file_is_stable_after_a_time_without_change():
    """It is reported once, and not earlier."""
    registry = StabilityTracker(0.5)
    registry.on_closed("a.pex")
    assert registry.update({"a.pex": ONE}, 10.0) == []
    assert registry.next_check_s() == 10.5
    assert registry.update({"a.pex": ONE}, 10.49) == []
    assert registry.update({"a.pex": ONE}, 10.5) == [FileStable("a.pex")]
    assert registry.next_check_s() is None
    assert registry.update({"a.pex": ONE}, 99.0) == []


def test_a_file_that_is_being_written_is_never_stable():
    """A slow upload may stall for longer than `stable_for_s`."""
    registry = StabilityTracker(0.5)
    registry.on_created("a.pex")
    assert registry.update({"a.pex": ONE}, 0.0) == []
    assert registry.next_check_s() is None
    assert registry.update({"a.pex": ONE}, 1000.0) == []
    registry.on_closed("a.pex")
    assert registry.update({"a.pex": TWO}, 1001.0) == []
    assert registry.update({"a.pex": TWO}, 1001.5) == [FileStable("a.pex")]


def test_after_lost_events_a_file_that_does_not_change_is_stable():
    """Its close may have been among them; otherwise it would be ignored for ever."""
    registry = StabilityTracker(1)
    registry.on_created("a.pex")
    assert registry.update({"a.pex": FileStat(1, 1, 1)}, 0) == []
    assert registry.next_check_s() is None
    registry.on_events_lost()
    assert registry.next_check_s() == 1
    assert registry.update({"a.pex": FileStat(1, 1, 1)}, 1) == [FileStable("a.pex")]


def test_a_change_starts_the_wait_again():
    """The size, the time and the inode each count."""
    registry = StabilityTracker(0.5)
    registry.update({"a.pex": ONE}, 0.0)
    registry.update({"a.pex": FileStat(1, 11, ONE.mtime_ns)}, 0.4)
    registry.update({"a.pex": FileStat(1, 11, ONE.mtime_ns + 1)}, 0.8)
    assert registry.update({"a.pex": FileStat(2, 11, ONE.mtime_ns + 1)}, 1.2) == []
    assert registry.update({"a.pex": FileStat(2, 11, ONE.mtime_ns + 1)}, 1.7) == [FileStable("a.pex")]


def test_a_file_replaced_in_place_settles_again():
    """Its name is the same, its content is not."""
    registry = StabilityTracker(0.5)
    registry.update({"a.pex": ONE}, 0.0)
    registry.update({"a.pex": ONE}, 1.0)
    assert registry.update({"a.pex": TWO}, 2.0) == []
    assert registry.update({"a.pex": TWO}, 2.5) == [FileStable("a.pex")]


def test_a_removed_file_is_reported_if_it_was_stable():
    """This is so even if it was being replaced. A file that was never stable is not reported."""
    registry = StabilityTracker(0.5)
    registry.update({"a.pex": ONE, "b.pex": ONE}, 0.0)
    registry.update({"a.pex": ONE, "b.pex": ONE}, 1.0)
    registry.update({"a.pex": ONE, "b.pex": TWO, "c.pex": ONE}, 1.1)
    assert registry.update({}, 1.2) == [FileRemoved("a.pex"), FileRemoved("b.pex")]
    assert registry.next_check_s() is None


def test_a_file_removed_while_it_is_written_is_forgotten():
    """The next file of that name is a new one."""
    registry = StabilityTracker(0.5)
    registry.on_created("a.pex")
    registry.update({"a.pex": ONE}, 0.0)
    registry.update({}, 1.0)
    registry.update({"a.pex": TWO}, 2.0)
    assert registry.update({"a.pex": TWO}, 2.5) == [FileStable("a.pex")]


def test_at_the_start_old_files_are_stable_at_once_oldest_first():
    """The order decides between two models with one path, so a restart keeps it. A recent file waits for its time."""
    registry = StabilityTracker(0.5)
    old = {"b.pex": FileStat(1, 1, 1 * 10**9), "a.pex": FileStat(2, 1, 2 * 10**9), "c.pex": FileStat(3, 1, 1 * 10**9)}
    fresh = {"d.pex": FileStat(4, 1, 99_900_000_000), "e.pex": FileStat(5, 1, 200_000_000_000)}
    assert registry.start(old | fresh, 7.0, 100 * 10**9) == [FileStable("b.pex"), FileStable("c.pex"), FileStable("a.pex")]
    assert registry.unstable_files() == {"d.pex", "e.pex"}
    assert registry.update(old | fresh, 7.4) == [FileStable("d.pex")]
    assert registry.update(old | fresh, 7.5) == [FileStable("e.pex")]


class Folder(RuleBasedStateMachine):
    """A folder in which anything happens, watched by a registry that sees every event but hears of writes only at their end."""

    def __init__(self):
        super().__init__()
        self.registry = StabilityTracker(1.0)
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
            self.files[name], self.touched[name] = FileStat(self.inode, 0, 0), self.now
            self.open.add(name)
            self.registry.on_created(name)
            self.look()

    @rule(name=names, size=st.integers(0, 3))
    def write(self, name, size):
        if name in self.open:
            stat = self.files[name]
            self.files[name], self.touched[name] = FileStat(stat.inode, stat.size + size, int(self.now * 1e9)), self.now

    @rule(name=names)
    def close(self, name):
        if name in self.open:
            self.open.discard(name)
            self.registry.on_closed(name)
            self.look()

    @rule(name=names, size=st.integers(0, 3))
    def rename_in(self, name, size):
        self.inode += 1
        self.files[name], self.touched[name] = FileStat(self.inode, size, 0), self.now
        self.open.discard(name)
        self.registry.on_closed(name)
        self.look()

    @rule(name=names)
    def remove(self, name):
        if self.files.pop(name, None):
            self.open.discard(name)
            self.look()

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 3.0]))
    def wait(self, seconds):
        end = self.now + seconds
        while (due := self.registry.next_check_s()) is not None and due <= end:
            self.now = max(self.now, due)
            self.look()
        self.now = end

    def look(self):
        for event in self.registry.update(self.files, self.now):
            match event:
                case FileStable(name):
                    assert name not in self.open
                    assert self.now >= self.touched[name] + 1.0 - 1e-9
                    assert self.taken.get(name) != self.files[name]
                    self.taken[name] = self.files[name]
                case FileRemoved(name):
                    assert name not in self.files
                    del self.taken[name]

    @invariant()
    def whatever_stands_still_is_taken_in_the_end(self):
        assert set(self.taken) <= set(self.files)
        for name, stat in self.files.items():
            if name not in self.open and self.now > self.touched[name] + 1.0 + 1e-6 and self.registry.next_check_s() is None:
                assert self.taken[name] == stat


Folder.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestFolder = Folder.TestCase
