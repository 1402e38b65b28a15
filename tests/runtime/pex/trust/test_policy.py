"""Tests of trust in pexes: signatures by OpenSSH, digests by sha256sum, and every way in which they are not valid."""

import base64
import hashlib
import os
from pathlib import Path

import pytest

from base.errors import PexdockError
from runtime.pex.trust.policy import TrustPolicy, Untrusted, load_trust_policy
from signing import make_key, sign


@pytest.fixture
def pex(tmp_path):
    path = tmp_path / "iris.pex"
    path.write_bytes(b"what the author built" * 100)
    return path


@pytest.fixture
def key(tmp_path):
    return make_key(tmp_path)


def vouch(trust: TrustPolicy, pex: Path) -> str:
    return trust.verify(pex, pex, hashlib.sha256(pex.read_bytes()).hexdigest())


def trusting(key: Path) -> TrustPolicy:
    return TrustPolicy(key.with_name(f"{key.name}.pub"), None)


@pytest.mark.parametrize(("kind", "bits"), [("ed25519", None), ("ecdsa", 256), ("ecdsa", 384), ("ecdsa", 521), ("rsa", 2048)])
@pytest.mark.parametrize("digest", ["sha256", "sha512"])
def test_a_signature_by_openssh_is_trusted(tmp_path, pex, kind, bits, digest):
    """Each type of key that ssh-keygen makes and each of its hash functions works; the log has the fingerprint of the key."""
    key = make_key(tmp_path, kind=kind, bits=bits)
    sign(pex, key, digest=digest)
    assert vouch(trusting(key), pex).endswith("(release@example.com)")


def test_a_list_of_digests_is_enough(tmp_path, pex):
    """Lines as sha256sum prints them, of text and of binary files, with comments between them."""
    digest = hashlib.sha256(pex.read_bytes()).hexdigest()
    listed = tmp_path / "trusted.sha256"
    trust = TrustPolicy(None, listed)
    for line in (f"{digest}  iris.pex", f"{digest.upper()} *iris.pex", digest, f"\\{digest}  odd\\nname.pex"):
        listed.write_text(f"# approved\n\n{'0' * 64}  other.pex\n{line}\n")
        assert vouch(trust, pex) == f"listed in {listed}"
    listed.write_text(f"{'0' * 64}  iris.pex\n")
    with pytest.raises(Untrusted, match=rf"it is not trusted: its sha256, {digest}, is not in .*add the output of `sha256sum iris\.pex`"):
        vouch(trust, pex)


def test_either_of_the_two_is_enough(tmp_path, pex, key):
    """A release that is signed need not be listed, and one that is listed need not be signed."""
    listed = tmp_path / "trusted.sha256"
    listed.write_text("")
    trust = TrustPolicy(key.with_name("release.pub"), listed)
    with pytest.raises(Untrusted, match=r"there is no signature iris\.pex\.sig beside it; sign it .*, or add the output of"):
        vouch(trust, pex)
    signature = sign(pex, key)
    assert vouch(trust, pex).startswith("signed with SHA256:")
    signature.unlink()
    listed.write_text(f"{hashlib.sha256(pex.read_bytes()).hexdigest()}  iris.pex\n")
    assert vouch(trust, pex).startswith("listed")


def test_a_signature_by_another_key_is_refused(tmp_path, pex, key):
    """Its fingerprint is named, so that operators can tell whose it is."""
    sign(pex, make_key(tmp_path, "stranger"))
    with pytest.raises(Untrusted, match=r"was made with the key SHA256:\S+, which is not trusted"):
        vouch(trusting(key), pex)


def test_a_signature_of_other_content_is_refused(tmp_path, pex, key):
    """The key is trusted, but the signature belongs to another pex, or one bit changed after it was signed."""
    other = tmp_path / "other.pex"
    other.write_bytes(b"something else")
    sign(other, key).rename(tmp_path / "iris.pex.sig")
    with pytest.raises(Untrusted, match="not a signature of this content"):
        vouch(trusting(key), pex)
    sign(pex, key)
    content = bytearray(pex.read_bytes())
    content[1000] ^= 1
    pex.write_bytes(content)
    with pytest.raises(Untrusted, match="not a signature of this content"):
        vouch(trusting(key), pex)


def test_a_signature_for_another_purpose_is_refused(pex, key):
    """The same key signs commits; a signature of a commit must not admit a pex."""
    sign(pex, key, namespace="git")
    with pytest.raises(Untrusted, match="was made for the namespace 'git', not 'pexdock'"):
        vouch(trusting(key), pex)


def test_a_signature_truncated_anywhere_is_refused(pex, key):
    """A signature may also have one flipped bit at any place; the error is always Untrusted."""
    signature = sign(pex, key)
    whole = signature.read_bytes()
    for size in range(len(whole) - 1):
        signature.write_bytes(whole[:size])
        with pytest.raises(Untrusted):
            vouch(trusting(key), pex)
    body = whole.rindex(b"-----END") - 2
    for place in range(len(b"-----BEGIN SSH SIGNATURE-----\n"), body):
        if whole[place] not in b"\n=":
            signature.write_bytes(whole[:place] + (b"A" if whole[place] != ord("A") else b"B") + whole[place + 1 :])
            with pytest.raises(Untrusted):
                vouch(trusting(key), pex)


def test_a_removed_key_admits_nothing_any_more_and_an_added_one_does_at_once(tmp_path, pex, key):
    """The .pub files of a folder are read anew each time; other files in it do not count."""
    keys = tmp_path / "keys"
    keys.mkdir()
    trust = TrustPolicy(keys, None)
    sign(pex, key)
    (keys / "notes.txt").write_text(key.with_name("release.pub").read_text())
    with pytest.raises(Untrusted, match="which is not trusted"):
        vouch(trust, pex)
    before = trust.evidence(pex)
    (keys / "release.pub").write_text(key.with_name("release.pub").read_text())
    assert trust.evidence(pex) != before
    assert vouch(trust, pex)
    (keys / "release.pub").unlink()
    with pytest.raises(Untrusted, match="which is not trusted"):
        vouch(trust, pex)


def test_only_regular_files_count_as_signatures(tmp_path, pex, key):
    """A link to a regular file counts; a pipe, a device, a folder or an endless file is refused without waiting."""
    signature = sign(pex, key)
    moved = signature.rename(tmp_path / "elsewhere")
    signature.symlink_to(moved)
    assert vouch(trusting(key), pex)
    secret = tmp_path / "secret"
    secret.write_text("the password is swordfish")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for target in (pipe, Path("/dev/zero"), tmp_path, secret, tmp_path / "nowhere"):
        signature.unlink()
        signature.symlink_to(target)
        with pytest.raises(Untrusted) as caught:
            vouch(trusting(key), pex)
        assert "swordfish" not in caught.value.detail
    signature.unlink()
    with signature.open("wb") as file:
        file.truncate(10**9)
    with pytest.raises(Untrusted, match="larger than 1048576 bytes"):
        vouch(trusting(key), pex)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("ssh-ed25519 AAAA", "line 1 of .* is truncated"),
        ("hello", "line 1 of .* is not a public key"),
        ("ssh-rsa {key}", "its type and its content differ"),
        ("sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIA==", "of an unsupported type"),
    ],
)
def test_an_invalid_line_in_the_keys_is_an_error(tmp_path, pex, key, line, reason):
    """At the start it stops Pexdock; later it refuses every pex, even if another line has the right key."""
    blob = key.with_name("release.pub").read_text().split()[1]
    (keys := tmp_path / "keys.txt").write_text(line.format(key=blob) + "\n")
    with pytest.raises(PexdockError, match=reason):
        load_trust_policy(keys, None)
    sign(pex, key)
    with pytest.raises(Untrusted, match=reason):
        vouch(TrustPolicy(keys, None), pex)


def test_a_short_rsa_key_is_refused(tmp_path):
    """1024 bits can be factored."""
    key = make_key(tmp_path, "short", "rsa", 1024)
    with pytest.raises(PexdockError, match="an RSA key of 1024 bits; at least 2048 are required"):
        load_trust_policy(key.with_name("short.pub"), None)


def test_without_either_setting_every_pex_is_trusted_and_a_missing_file_is_an_error(tmp_path):
    """A misspelled path must not disable the check."""
    assert load_trust_policy(None, None) is None
    for keys, digests in ((tmp_path / "keys", None), (None, tmp_path / "list")):
        with pytest.raises(PexdockError, match="cannot be read: No such file"):
            load_trust_policy(keys, digests)
    (tmp_path / "list").write_text("iris.pex\n")
    with pytest.raises(PexdockError, match=r"line 1 of .* is not a line as `sha256sum` prints it"):
        load_trust_policy(None, tmp_path / "list")


@pytest.mark.parametrize(("kind", "bits"), [("ed25519", None), ("ecdsa", 256), ("rsa", 2048)])
def test_a_signature_with_invalid_numbers_is_refused(tmp_path, pex, kind, bits):
    """Key, namespace and digest are right, but the numbers are missing, zero, too many or of another type."""
    key = make_key(tmp_path, kind=kind, bits=bits)
    signature = sign(pex, key)
    lines = signature.read_text().splitlines()
    blob = base64.b64decode("".join(lines[1:-1]))
    inner_size = next(size for size in range(len(blob)) if blob.endswith(size.to_bytes(4) + blob[len(blob) - size :]) and size > 40)
    outer = blob[: -inner_size - 4]
    name = blob[-inner_size:][4 : 4 + int.from_bytes(blob[-inner_size:][:4])]
    numbers = [b"", b"\0", b"\xff" * 32, b"\x01" * 5000, packed(b"") * 2, packed(b"\0") + packed(b"\0"), packed(b"\xff") + packed(b"\x01")]
    for kind_name in (name, b"ssh-ed25519", b"rsa-sha2-256", b"ecdsa-sha2-nistp256", b"ssh-rsa", b"\xff"):
        for number in numbers:
            forged = outer + packed(packed(kind_name) + packed(number))
            text = base64.b64encode(forged).decode()
            signature.write_text(f"{lines[0]}\n{text}\n{lines[-1]}\n")
            with pytest.raises(Untrusted):
                vouch(trusting(key), pex)


def packed(value: bytes) -> bytes:
    return len(value).to_bytes(4) + value
