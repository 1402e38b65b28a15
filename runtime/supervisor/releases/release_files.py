"""The files from which a release runs."""

from __future__ import annotations

from dataclasses import dataclass, field

from runtime.pex.cache.store import AdmittedPex, UnpackedBase
from runtime.pex.file import PexFile
from runtime.pex.trust.policy import Evidence


@dataclass
class ReleaseFiles:
    """The files of one release, as far as they are known.

    Attributes:
        pex: Metadata of its pex.
        admitted: Its copy in the cache.
        base: The base that it runs on; of a base, that base itself.
        base_pending: Whether its base is still being read or unpacked.
        untrusted_evidence: The signatures and lists by which its pex was not trusted; None if it was, or was not judged.
        warnings: Warnings of the check against its base.
    """

    pex: PexFile | None = None
    admitted: AdmittedPex | None = None
    base: UnpackedBase | None = None
    base_pending: bool = False
    untrusted_evidence: Evidence | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def is_base(self) -> bool:
        """Returns whether the pex is known to be a base."""
        return self.pex is not None and self.pex.kind == "base"
