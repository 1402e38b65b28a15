"""`pexdock unpack`: fill the cache with what lies in dist/, before anybody serves it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from base.errors import PexRefused
from runtime.pex.cache.store import PexCache, UnpackedBase
from runtime.pex.check import check_pex, choose_base
from runtime.pex.file import PexFile, read_pex

Say = Callable[[str], None]


class Prefetcher:
    """Unpacks bases, and models on their bases, without running anything of them. Safe while others do so or serve.

    Args:
        store: of the cache.
        say: takes a line for each that is unpacked.
        complain: takes a line for each that cannot be.
    """

    def __init__(self, store: PexCache, say: Say, complain: Say) -> None:
        self._store = store
        self._say = say
        self._complain = complain
        self._bases: list[UnpackedBase] = []

    def unpack_all(self, pexes: Sequence[Path]) -> bool:
        """Unpack all of them. Returns whether that could be done."""
        read = [self._read(path) for path in pexes]
        found = [pex for pex in read if pex is not None]
        bases = [self._unpack(pex, self._base) for pex in found if pex.kind == "base"]
        models = [self._unpack(pex, self._model) for pex in found if pex.kind == "model"]
        return all([len(found) == len(read), *bases, *models])

    def _read(self, path: Path) -> PexFile | None:
        try:
            return read_pex(path)
        except PexRefused as exc:
            self._complain(exc.detail)
            return None

    def _unpack(self, pex: PexFile, how: Callable[[PexFile], None]) -> bool:
        try:
            how(pex)
        except PexRefused as exc:
            self._complain(exc.detail)
            return False
        what = f"base {pex.version}" if pex.kind == "base" else f"{pex.name} {pex.version}"
        self._say(f"{pex.path.name}: {what} is unpacked")
        return True

    def _base(self, pex: PexFile) -> None:
        self._bases.append(self._store.unpack_base(pex.path))

    def _model(self, pex: PexFile) -> None:
        on = choose_base(pex, [base.pexfile for base in self._bases])
        check_pex(pex, on)
        base = next(base for base in self._bases if base.pexfile is on)
        self._store.worker_command(self._store.admit(pex.path), base)
