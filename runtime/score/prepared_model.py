"""A model that is verified, unpacked on its base, and ready to be started by this process."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from sys import maxsize

from base.errors import PexRefused
from runtime.pex.bases import find_bases
from runtime.pex.cache.store import PexCache, UnpackedBase
from runtime.pex.check import check_pex, choose_base
from runtime.pex.file import PexFile, read_pex
from runtime.pex.trust.policy import load_trust_policy
from runtime.settings import Settings
from runtime.supervisor.host.run_dir import RunDir
from runtime.supervisor.processes.sandbox import Sandbox, User
from runtime.supervisor.processes.start_limiter import StartLimiter
from runtime.supervisor.processes.worker_run import WorkerTemplate
from runtime.supervisor.releases.release_context import ReleaseContext
from runtime.supervisor.rollout.release import Identity, Release


@dataclass(frozen=True)
class PreparedModel:
    """A model that can be started.

    Attributes:
        pex: Its file.
        sha256: Digest of the file.
        base: Its base.
        template: Parameters of the start of its workers.
    """

    pex: PexFile
    sha256: str
    base: UnpackedBase
    template: WorkerTemplate


def prepare_model(path: Path, base_path: Path | None, settings: Settings, store: PexCache, run_dir: RunDir, scratch: Path) -> PreparedModel:
    """Verifies a model and unpacks it on its base.

    Args:
        path: The pex of the model.
        base_path: The pex of its base; None for the one beside it, or in dist/.
        settings: All settings.
        store: The cache to unpack into.
        run_dir: Folder for sockets.
        scratch: Folder for temporary files of workers.

    Raises:
        PexRefused: It cannot run on this machine, or has no base.
    """
    user = None if settings.worker_user is None else User.look_up(settings.worker_user)
    sandbox = Sandbox(scratch, tuple(re.split(r"[\s,]+", settings.worker_env)), user, int(settings.worker_max_bytes))
    trust = load_trust_policy(settings.trusted_keys_path, settings.trusted_digests_path)
    context = ReleaseContext(store, settings, run_dir, lambda _: None, StartLimiter(maxsize), sandbox, trust)
    admitted = store.admit(context.trusted_path(path))
    pex = read_pex(admitted.path)
    if pex.kind != "model":
        raise PexRefused(f"{path} is a base; name the pex of a model")
    bases = [base_path] if base_path else [each.path for folder in (settings.dist_path, path.parent) for each in find_bases(folder)]
    found = choose_base(pex, [read_pex(each, checksums=False) for each in dict.fromkeys(bases)])
    base = store.unpack_base(context.trusted_path(found.path))
    check_pex(pex, base.pexfile, base_sha256=base.sha256)
    sandbox.make_cache_folder(settings.cache_path)
    release = Release(path.name, 0)
    release.identity = Identity(pex.kind, pex.name, pex.version, admitted.sha256)
    return PreparedModel(pex, admitted.sha256, base, context.worker_template(release, store.worker_command(admitted, base)))
