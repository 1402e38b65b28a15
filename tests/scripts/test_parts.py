"""The command that runs all tests in two parts, on a handful of tests of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(180)  # each test starts up to ten processes of pytest

PARTS = Path(__file__).parent.parent.parent / "scripts" / "parts.py"

PASSES = """
import os
import pytest

def test_side_by_side():
    assert os.environ["PYTEST_XDIST_WORKER"]
    open("side-by-side", "w").close()

@pytest.mark.alone
def test_alone():
    assert "PYTEST_XDIST_WORKER" not in os.environ
    assert os.path.exists("side-by-side")

def test_skipped():
    pytest.skip("for its count")
"""

FAILS = """
import pytest

@pytest.fixture
def broken():
    assert False

def test_fails():
    assert False

def test_errs(broken):
    pass

@pytest.mark.alone
def test_fails_alone():
    assert False
"""

BREAKS_OFF = "import pytest\n@pytest.mark.alone\ndef test_breaks_off():\n    __import__('os')._exit(3)\n"


def run(folder, *modules):
    """The exit code, the lines before the last one, and what that counts."""
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = alone: not beside others\n")
    for number, source in enumerate(modules):
        (folder / f"test_module{number}.py").write_text(source)
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}  # as where no test runs it
    environment = own | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "xdist.plugin"}  # the others take long to import
    done = subprocess.run([sys.executable, PARTS], cwd=folder, env=environment, capture_output=True, text=True, timeout=100)
    *told, last = done.stdout.splitlines()
    return done.returncode, told, re.fullmatch(r"=+ (.*) in [\d.]+s \(0:\d\d:\d\d\) =+", last)[1]


def test_the_last_line_counts_the_tests_of_both_parts(tmp_path):
    """Each ran once, in its own part: beside others, or after them and alone."""
    code, told, last = run(tmp_path, PASSES)
    assert (code, last) == (0, "2 passed, 1 skipped"), told


def test_what_fails_in_either_part_fails_the_whole_and_is_named_last(tmp_path):
    """So that nobody has to look for it above the other part."""
    code, told, last = run(tmp_path, PASSES, FAILS)
    assert (code, last) == (1, "2 failed, 2 passed, 1 skipped, 1 error")
    named = ["FAILED test_module1::test_fails", "ERROR test_module1::test_errs", "FAILED test_module1::test_fails_alone"]
    assert sorted(told[-3:]) == sorted(named)


def test_a_part_that_breaks_off_or_finds_no_test_fails_the_whole(tmp_path):
    """A process that ends takes its report with it; where a marker has gone its tests have."""
    code, told, last = run(tmp_path, PASSES, BREAKS_OFF)
    assert (code, last, told[-1]) == (1, "1 passed, 1 skipped, 1 error", "PART ABORTED: alone: pytest exited with 3 and without a report")
    (tmp_path / "test_module1.py").unlink()
    code, told, last = run(tmp_path, "def test_passes():\n    pass\n")
    assert (code, last, told[-1]) == (1, "1 passed", "PART FAILED: alone: pytest exited with 5")
