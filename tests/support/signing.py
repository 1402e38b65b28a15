"""SSH keys and signatures, made by OpenSSH itself."""

import shutil
import subprocess
from pathlib import Path

import pytest

KEYGEN = shutil.which("ssh-keygen") or ""


def make_key(folder: Path, name: str = "release", kind: str = "ed25519", bits: int | None = None) -> Path:
    """Makes a key without a passphrase; its public half is beside it as `<name>.pub`."""
    if not KEYGEN:
        pytest.skip("there is no ssh-keygen (Debian: openssh-client), so SIGNATURES ARE NOT TESTED")
    size = ["-b", str(bits)] if bits else []
    command = [KEYGEN, "-q", "-t", kind, *size, "-N", "", "-C", f"{name}@example.com", "-f", str(folder / name)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return folder / name


def sign(pex: Path, key: Path, namespace: str = "pexdock", digest: str = "sha512") -> Path:
    """Signs a pex with the command that operators use; the signature is beside the pex."""
    signature = pex.with_name(f"{pex.name}.sig")
    signature.unlink(missing_ok=True)
    command = [KEYGEN, "-q", "-Y", "sign", "-n", namespace, "-O", f"hashalg={digest}", "-f", str(key), str(pex)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    return signature
