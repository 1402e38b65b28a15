"""A supervisor with trusted keys or digests: no other pex is unpacked or run, and one that becomes trusted serves."""

import hashlib
import subprocess

import pytest

from signing import make_key, sign
from supervisor_harness import Supervised
from tinypex import times, write_tiny


@pytest.fixture
def key(tmp_path):
    return make_key(tmp_path)


@pytest.fixture
def keys(tmp_path, key):
    """Returns the folder of trusted keys, with one key in it."""
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / "release.pub").write_text(key.with_name("release.pub").read_text())
    return folder


@pytest.fixture
def signed(tmp_path, key, keys):
    """Yields a supervisor whose base is signed."""
    supervised = Supervised(tmp_path, trusted_keys_path=keys)
    sign(supervised.dist / "base.pex", key)
    return supervised


def drop_signed(supervised, key, name, *arguments, **options):
    """Puts a pex into dist/ as recommended: the signature first."""
    aside = write_tiny(supervised.dist.parent / "aside" / f"{name}.pex", *arguments, **options)
    sign(aside, key).rename(supervised.dist / f"{name}.pex.sig")
    aside.rename(supervised.dist / f"{name}.pex")


def in_cache(supervised, folder="releases"):
    """Returns what was unpacked or copied, without locks."""
    found = (supervised.dist.parent / "cache" / folder).glob("*")
    return sorted(path.name for path in found if path.is_dir() or path.suffix == ".part")


def test_a_signed_pex_serves_and_an_unsigned_one_waits_for_its_signature(signed, key):
    """It is refused with a message that says what to do, and leaves nothing in the cache. When its signature arrives, it serves."""
    with signed:
        drop_signed(signed, key, "good", "good")
        signed.until_state("good.pex", "ready")
        write_tiny(signed.dist / "late.pex", "late")
        refused = signed.until_state("late.pex", "refused")
        assert refused["reason"].startswith("it is not trusted: there is no signature late.pex.sig beside it; sign it")
        assert len(in_cache(signed)) == 2  # good.pex and the base, whose copy is gone
        sign(signed.dist / "late.pex", key)
        signed.until_state("late.pex", "ready")
        signed.until(lambda: signed.predictions("/late") == [6])
        assert not list((signed.dist.parent / "cache").rglob("base.pex"))
        shown = subprocess.run(signed.command("models"), env=signed.environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    assert "late.pex" in shown


def test_nothing_of_an_untrusted_pex_runs_or_is_unpacked(signed, key, tmp_path):
    """Cases are a wrong key, a foreign signature, a change after signing, and no zip.

    Each is refused for that reason alone, and leaves no file.
    """
    loud = f"open({str(tmp_path / 'ran')!r}, 'w')\n{times(2, '/loud')}"
    stranger = make_key(tmp_path, "stranger")
    with signed:
        before = in_cache(signed), in_cache(signed, "bases")
        sign(write_tiny(signed.dist / "stranger.pex", "stranger", module=loud), stranger)
        drop_signed(signed, key, "changed", "changed", module=loud)
        write_tiny(signed.dist / "changed.pex", "changed", "0.2.0", module=loud)
        write_tiny(signed.dist / "borrowed.pex", "borrowed", module=loud)
        (signed.dist / "borrowed.pex.sig").write_bytes((signed.dist / "base.pex.sig").read_bytes())
        (signed.dist / "junk.pex").write_bytes(b"\x00" * 100)
        for file in ("stranger.pex", "borrowed.pex", "junk.pex", "changed.pex"):
            assert signed.until_state(file, "refused")["reason"].startswith("it is not trusted: ")
        assert not (tmp_path / "ran").exists()
        left = [each for each in in_cache(signed) if each not in before[0]]
        assert len(left) <= 1  # the signed content of changed.pex, if it was seen at all
        assert in_cache(signed, "bases") == before[1]


def test_an_untrusted_base_is_not_unpacked_and_its_models_wait(tmp_path, keys, key):
    """Whoever replaced the base would get every model's requests."""
    supervised = Supervised(tmp_path, trusted_keys_path=keys)
    drop_signed(supervised, key, "tiny", "tiny")
    with supervised:
        assert supervised.release("base.pex")["state"] == "refused"
        assert supervised.release("tiny.pex")["state"] == "waiting"
        assert not in_cache(supervised, "bases")
        sign(supervised.dist / "base.pex", key)
        supervised.until_state("tiny.pex", "ready")


def test_a_removed_key_admits_nothing_new_and_an_added_one_does(signed, key, keys, tmp_path):
    """Both are noticed at run time. Serving releases continue, and waiting ones start when their key arrives."""
    other = make_key(tmp_path, "other")
    with signed:
        drop_signed(signed, key, "first", "first")
        drop_signed(signed, other, "second", "second")
        signed.until_state("first.pex", "ready")
        assert "which is not trusted" in signed.until_state("second.pex", "refused")["reason"]
        (tmp_path / "other.pub").rename(keys / "other.pub")
        signed.until_state("second.pex", "ready")
        (keys / "release.pub").unlink()
        drop_signed(signed, key, "third", "third")
        assert "which is not trusted" in signed.until_state("third.pex", "refused")["reason"]
        signed.until(lambda: signed.predictions("/second") == [6])
        assert signed.predictions("/first") == [6]


def test_a_pex_starts_when_its_digest_is_listed(tmp_path):
    """The list is one file, which may change at run time."""
    listed = tmp_path / "trusted.sha256"
    supervised = Supervised(tmp_path, trusted_digests_path=listed)

    def enlist(*paths):
        listed.write_text("".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in paths))

    base = supervised.dist / "base.pex"
    enlist(base)
    with supervised:
        tiny = write_tiny(supervised.dist / "tiny.pex", "tiny")
        assert "is not in" in supervised.until_state("tiny.pex", "refused")["reason"]
        enlist(base, tiny)
        supervised.until_state("tiny.pex", "ready")


def test_a_trusted_release_keeps_serving_when_its_file_is_replaced(signed, key):
    """It does so although the file is now somebody else's, and also when its worker restarts."""
    with signed:
        drop_signed(signed, key, "tiny", "tiny")
        pids = signed.until_state("tiny.pex", "ready")["worker_pids"]
        write_tiny(signed.dist / "tiny.pex", "tiny", "9.0.0", times(10, "/tiny"))
        signed.until_state("tiny.pex", "refused")
        subprocess.run(["kill", "-9", str(pids[0])], check=True)
        signed.until(lambda: [each for each in signed.releases("tiny.pex") if each["state"] == "ready" and each["restarts"]])
        signed.until(lambda: signed.predictions("/tiny") == [6])


def test_a_missing_list_of_digests_fails_the_start(tmp_path):
    """A misspelt path is found before anything is served."""
    supervised = Supervised(tmp_path, trusted_digests_path=tmp_path / "nowhere")
    done = subprocess.run(supervised.command("serve"), env=supervised.environment, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert (
        "nowhere cannot be read: No such file or directory; no pex can be trusted until that is corrected there or in the setting trusted_"
        in done.stderr
    )


def test_check_names_the_signer(tmp_path, keys, key):
    """It does so before anything is deployed."""
    supervised = Supervised(tmp_path, trusted_keys_path=keys)
    pex = write_tiny(tmp_path / "tiny.pex", "tiny")
    check = [*supervised.command("check"), str(pex)]
    refused = subprocess.run(check, env=supervised.environment, capture_output=True, text=True)
    assert (refused.returncode, "it is not trusted" in refused.stderr) == (1, True)
    sign(pex, key)
    assert "trusted        signed with SHA256:" in subprocess.run(check, env=supervised.environment, capture_output=True, text=True).stdout
