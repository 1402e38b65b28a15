"""The start script as it runs in the image, where it decides which base to run."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from handmade_pexes import sdk, write_pex

ROOT = Path(__file__).parent.parent

UNPACK = """
from pathlib import Path
def main(argv):
    Path({ran!r}).write_text(argv[0])
    return 7
"""


@pytest.fixture
def image(tmp_path):
    """Returns a folder like the image's, with a base that only records that it ran."""
    (tmp_path / "dist").mkdir()
    shutil.copy(ROOT / "entrypoint.sh", tmp_path)
    files = {
        "runtime/__init__.py": "",
        "runtime/pex/__init__.py": "",
        "runtime/pex/unpack.py": UNPACK.format(ran=str(tmp_path / "ran")),
    }
    write_pex(tmp_path / "dist" / "base-0.1.0.pex", sdk(files=files))
    return tmp_path


def start(folder, *flags, **variables):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PEXDOCK_")}
    env = clean | {"PEXDOCK_PYTHON": sys.executable, "PEXDOCK_CACHE_PATH": str(folder / "cache")} | variables
    return subprocess.run([folder / "entrypoint.sh", *flags], cwd=folder, env=env, capture_output=True, text=True, timeout=30)


def from_source(source, name, value, folder):
    """Returns the arguments of `start` for a setting from a source."""
    if source == "file":
        (folder / "pexdock.toml").write_text(f"{name} = '{value}'\n")
    flag = f"--{name.replace('_', '-')}"
    words = {"flag": [flag, str(value)], "flag=": [f"{flag}={value}"]}.get(source, [])
    return words, {f"PEXDOCK_{name.upper()}": str(value)} if source == "variable" else {}


def test_without_trust_the_base_in_dist_is_run(image):
    """It is not copied."""
    assert start(image).returncode == 7
    assert (image / "ran").read_text() == "dist/base-0.1.0.pex"


@pytest.mark.parametrize(
    ("words", "command"), [((), "serve"), (("--port", "0"), "serve --port 0"), (("pexdock", "models", "--json"), "models --json")]
)
def test_it_serves_or_runs_a_command(image, words, command):
    """The command after `pexdock` is run with the unpacked base, also while another process serves it."""
    python = image / "unpacked" / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nshift 3\necho "$@" > {image}/command\n')
    python.chmod(0o755)
    unpack = f"from pathlib import Path\n\ndef main(argv):\n    Path(argv[2]).write_text({str(image / 'unpacked')!r})\n    return 0\n"
    files = {"runtime/__init__.py": "", "runtime/pex/__init__.py": "", "runtime/pex/unpack.py": unpack}
    write_pex(image / "dist" / "base-0.2.0.pex", sdk(files=files))
    assert start(image, *words).returncode == 0
    assert (image / "command").read_text() == f"{command}\n"


@pytest.mark.parametrize("source", ["variable", "flag", "flag=", "file"])
def test_a_base_that_is_not_listed_is_not_run(image, source):
    """The setting may come from any source. Once the base is listed, a private copy of it is run, and removed afterwards."""
    listed = image / "trusted.sha256"
    listed.write_text(f"{'0' * 64}  base-0.1.0.pex\n")
    words, variables = from_source(source, "trusted_digests_path", listed, image)
    refused = start(image, *words, **variables)
    assert refused.returncode == 1
    assert "error: dist/base-0.1.0.pex is not trusted: add its sha256" in refused.stderr
    assert not (image / "ran").exists()
    listed.write_text(f"{hashlib.sha256((image / 'dist/base-0.1.0.pex').read_bytes()).hexdigest()}  base-0.1.0.pex\n")
    assert start(image, *words, **variables).returncode == 7
    assert (image / "ran").read_text().startswith(f"{image}/cache/.base.")
    assert not list((image / "cache").iterdir())


@pytest.mark.parametrize("source", ["variable", "flag", "file"])
def test_keys_alone_do_not_admit_the_base_that_pexdock_starts_from(image, source):
    """The code that verifies signatures is part of it."""
    words, variables = from_source(source, "trusted_keys_path", image / "keys", image)
    refused = start(image, *words, **variables)
    assert (refused.returncode, (image / "ran").exists()) == (1, False)
    assert "to trusted_digests_path" in refused.stderr


def test_a_missing_dist_folder_is_named_with_its_variable(image):
    """It is no reason to look for a base in vain."""
    done = start(image, PEXDOCK_DIST_PATH="/nothing")
    assert done.returncode == 1
    assert done.stderr == "error: there is no folder /nothing for pexes: mount one there, or set PEXDOCK_DIST_PATH to another one\n"


def test_a_cache_that_cannot_be_written_to_is_named_with_its_variable(image, tmp_path):
    """Base is unpacked into it, so nothing can start."""
    (tmp_path / "file").touch()
    done = start(image, PEXDOCK_CACHE_PATH=str(tmp_path / "file" / "cache"))
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: user {os.getuid()} cannot write to the folder {tmp_path}/file/cache, into which base is")
    assert "PEXDOCK_CACHE_PATH" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_base_that_cannot_be_used_leaves_the_next_older_one_in_use(image):
    """Such as one that is still being copied. Only if none is left, the start fails, and says for each of them what to do."""
    whole, newer, oldest = (image / f"dist/base-{version}.pex" for version in ("0.1.0", "0.10.0", "0.0.9"))
    newer.write_bytes(whole.read_bytes()[:-100])
    shutil.copy(whole, oldest)
    os.mkfifo(image / "dist/base-0.11.0.pex")
    done = start(image)
    assert done.returncode == 7
    assert (image / "ran").read_text() == "dist/base-0.1.0.pex"
    bad = "dist/base-0.10.0.pex is not a base, or is still being copied: wait, or replace or remove it"
    assert done.stderr == f"warning: {bad}; dist/base-0.1.0.pex is used instead\n"
    whole.unlink()
    oldest.write_bytes(b"")
    done = start(image)
    assert done.returncode == 1
    assert done.stderr == f"error: {bad}\nerror: {bad.replace('0.10.0', '0.0.9')}\n"
    oldest.unlink()
    newer.chmod(0)
    if os.getuid() == 0:
        return  # root may read it
    assert start(image).stderr == f"error: cannot read {newer}: Permission denied; give user {os.getuid()} access to it, or remove it\n"


def test_a_base_that_is_not_trusted_leaves_the_next_older_one_in_use(image):
    """It may still be arriving, too, or its digest may be."""
    digest = hashlib.sha256((image / "dist/base-0.1.0.pex").read_bytes()).hexdigest()
    (image / "trusted.sha256").write_text(f"{digest}  base-0.1.0.pex\n")
    (image / "dist/base-0.2.0.pex").write_bytes(b"PK")
    done = start(image, PEXDOCK_TRUSTED_DIGESTS_PATH=str(image / "trusted.sha256"))
    assert done.returncode == 7
    assert done.stderr.startswith("warning: dist/base-0.2.0.pex is not trusted: add its sha256")


def test_nothing_of_another_user_is_run(image):
    """A cache that another user owns may hold any code. The start names its owner, and changes nothing.

    Root takes it while it is empty, as the volumes of the image are.
    """
    if os.getuid() != 0:
        pytest.skip("NOT TESTED: only root may give a folder to another user")
    cache = image / "cache"
    cache.mkdir()
    os.chown(cache, 12399, 0)
    cache.chmod(0o777)
    (cache / "bases").mkdir()
    done = start(image)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: the folder {cache} belongs to user 12399, whose code could run: make user 0 its owner, or set")
    assert not (image / "ran").exists()
    assert list(cache.rglob("*")) == [cache / "bases"]
    (cache / "bases").rmdir()
    assert start(image).returncode == 7
    assert (cache.stat().st_uid, cache.stat().st_mode & 0o777) == (0, 0o755)


@pytest.mark.parametrize("shell", ["exec", "trap '' INT; exec"])
def test_sigterm_ends_a_step_even_if_sigint_is_ignored(image, shell):
    """It is, in a script that starts others with `&`. Temporary files are removed first."""
    waiting = "import time\ndef main(argv):\n    open(argv[2], 'w').close()\n    time.sleep(600)\n"
    files = {"runtime/__init__.py": "", "runtime/pex/__init__.py": "", "runtime/pex/unpack.py": waiting}
    write_pex(image / "dist" / "base-0.1.0.pex", sdk(files=files))
    env = os.environ | {"PEXDOCK_PYTHON": sys.executable, "PEXDOCK_CACHE_PATH": str(image / "cache")}
    process = subprocess.Popen(["bash", "-c", f"{shell} ./entrypoint.sh"], cwd=image, env=env)
    try:
        end = time.monotonic() + 60
        while not list(image.glob("cache/.unpacked.*")):
            assert time.monotonic() < end
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
    finally:
        process.kill()
