"""Earlier states of this project: the tree of a commit, and the output of its own commands."""

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tinypex import ROOT

RELEASED = "db2ff86f9fcf2ca09ff99cd11af4c12a03dee7af"
"""The commit of the last release: 0.1.0. By its id, since a clone may have no tags."""

BEFORE = "b68402cf7d4c28db1638d003d6c468c87a69ef17"
"""One that spoke wire version 6. It called itself 0.1.0, too."""


def tree_of(commit: str, folder: Path) -> Path:
    """Returns the tree of a commit, in `folder`. Skips the test without git, the repository, or the commit."""
    try:
        done = subprocess.run(["git", "archive", "--format=tar", commit], cwd=ROOT, capture_output=True)
    except FileNotFoundError:
        pytest.skip("THE BASE OF THE RELEASE IS NOT TESTED: there is no git here")
    if done.returncode != 0:
        why = done.stderr.decode(errors="replace").strip()
        pytest.skip(f"THE BASE OF THE RELEASE IS NOT TESTED: its commit {commit[:12]} is not here, as in a shallow clone: {why}")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def run_in(tree: Path, *words: object, cache: Path) -> str:
    """Returns what `pexdock` of that tree prints. The interpreter of the tests runs it, with their packages."""
    given = {name: value for name, value in os.environ.items() if not name.startswith("PEXDOCK_")}
    env = given | {"PYTHONPATH": str(tree), "PEXDOCK_CACHE_PATH": str(cache)}
    command = [sys.executable, "-m", "runtime", *map(str, words)]
    done = subprocess.run(command, env=env, cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
