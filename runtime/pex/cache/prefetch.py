"""`pexdock unpack`: fills the cache from dist/ before anything is served."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from base.errors import PexRefused
from runtime.pex.cache.store import PexCache, UnpackedBase
from runtime.pex.check import check_pex, choose_base
from runtime.pex.file import PexFile, read_pex

PrintLine = Callable[[str], None]


class Prefetcher:
    """Unpacks bases, and models for their bases, without running any of them. Safe while other processes unpack or serve.

    Args:
        cache: The cache.
        print_result: Called with a line for each pex that is unpacked.
        print_error: Called with a line for each pex that cannot be unpacked.
    """

    def __init__(self, cache: PexCache, print_result: PrintLine, print_error: PrintLine) -> None:
        self._cache = cache
        self._print_result = print_result
        self._print_error = print_error
        self._bases: list[UnpackedBase] = []

    def unpack_all(self, pexes: Sequence[Path]) -> bool:
        """Unpacks all pexes. Returns False if any cannot be unpacked."""
        read = [self._read(path) for path in pexes]
        found = [pex for pex in read if pex is not None]
        bases = [self._unpack(pex, self._unpack_base) for pex in found if pex.kind == "base"]
        models = [self._unpack(pex, self._unpack_model) for pex in found if pex.kind == "model"]
        return all([len(found) == len(read), *bases, *models])

    def _read(self, path: Path) -> PexFile | None:
        try:
            return read_pex(path)
        except PexRefused as exc:
            self._print_error(exc.detail)
            return None

    def _unpack(self, pex: PexFile, unpack: Callable[[PexFile], None]) -> bool:
        try:
            unpack(pex)
        except PexRefused as exc:
            self._print_error(exc.detail)
            return False
        what = f"base {pex.version}" if pex.kind == "base" else f"{pex.name} {pex.version}"
        self._print_result(f"{pex.path.name}: {what} is unpacked")
        return True

    def _unpack_base(self, pex: PexFile) -> None:
        self._bases.append(self._cache.unpack_base(pex.path))

    def _unpack_model(self, pex: PexFile) -> None:
        chosen = choose_base(pex, [base.pexfile for base in self._bases])
        check_pex(pex, chosen)
        base = next(base for base in self._bases if base.pexfile is chosen)
        self._cache.worker_command(self._cache.admit(pex.path), base)
