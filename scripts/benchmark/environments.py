"""The environments of the peers: one each below .venv/peers, recreated when its requirements.txt changes."""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from benchmark.pexdock import HERE, ROOT
from benchmark.processes import ServerFailed

STAMP = "pexdock-peer"


def install(peer: str) -> None:
    """Creates the environment of a peer, unless it exists.

    Raises:
        ServerFailed: pip cannot install it; the message contains its output.
    """
    requirements = HERE / "peers" / peer / "requirements.txt"
    folder = folder_of(peer)
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    stamp = folder / STAMP
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"installing {peer} into {folder.relative_to(ROOT)}", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    command = [
        str(folder / "bin/pip"),
        "install",
        "--quiet",
        "--require-hashes",
        "--only-binary",
        ":all:",
        "--no-deps",
        "-r",
        str(requirements),
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise ServerFailed(f"pip cannot install {peer}:\n{done.stderr[-2000:]}")
    stamp.write_text(wanted)


def folder_of(peer: str) -> Path:
    """Returns the folder of a peer's environment."""
    return ROOT / ".venv/peers" / peer


def version(peer: str, distribution: str) -> str:
    """Returns the version of a package in a peer's environment."""
    if peer in {"pexdock", "uvicorn"}:
        return importlib.metadata.version(distribution)
    found = importlib.metadata.distributions(name=distribution, path=[str(path) for path in folder_of(peer).glob("lib/*/site-packages")])
    return next((each.version for each in found), "?")
