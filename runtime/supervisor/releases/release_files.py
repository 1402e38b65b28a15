"""The files from which a release runs."""

from __future__ import annotations

from dataclasses import dataclass, field

from runtime.pex.cache.store import AdmittedPex, UnpackedBase
from runtime.pex.file import PexFile
from runtime.pex.trust.policy import Evidence


@dataclass
class ReleaseFiles:
    """The known files of one release.

    Attributes:
        pex: Metadata of its pex.
        admitted: Its copy in the cache.
        base: The base on which it runs; for a base, the base itself.
        base_pending: Whether its base is still being read or unpacked.
        retry_due: Whether it could not be prepared for lack of resources, and is retried.
        untrusted_evidence: Evidence by which its pex was not trusted; None if it was trusted or is not verified yet.
        warnings: Warnings of the check against its base.
    """

    pex: PexFile | None = None
    admitted: AdmittedPex | None = None
    base: UnpackedBase | None = None
    base_pending: bool = False
    retry_due: bool = False
    untrusted_evidence: Evidence | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def is_base(self) -> bool:
        """Returns whether the pex is known to be a base."""
        return self.pex is not None and self.pex.kind == "base"
