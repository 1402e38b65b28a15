"""A dist/ in an object store: what lies there, and its objects as files. Blocks, and keeps nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from base.artifacts.clients.object_store import download_object, open_store
from base.errors import PexdockError
from runtime.pex.names import belongs_to_dist

if TYPE_CHECKING:
    from obstore import ObjectMeta


@dataclass(frozen=True)
class RemotePex:
    """One object as a listing shows it. `stamp` changes with its content: the ETag, or else version or time."""

    name: str
    size_bytes: int
    stamp: str
    modified_ns: int
    meta: ObjectMeta


class RemoteDist:
    """The objects directly below a URL. Credentials, region and endpoint come from the environment, by each cloud's own names.

    Raises:
        PexdockError: the URL means nothing, or what the environment says does not fit it.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            self._store: Any = open_store(url)
        except Exception as exc:  # the library's errors have no common root but this
            raise PexdockError(f"{url} cannot be followed: {exc}") from exc

    def list_pexes(self) -> list[RemotePex]:
        """All pexes and their signatures, oldest first, by one request for a thousand objects. Folders below the URL are not looked at.

        Raises:
            Exception: whatever the library raises: the store cannot be asked.
        """
        import obstore  # noqa: PLC0415 - only who follows a store pays for the import

        found = [_pex(each) for each in obstore.list_with_delimiter(self._store)["objects"]]
        return sorted((each for each in found if belongs_to_dist(each.name)), key=lambda each: (each.modified_ns, each.name))

    def download_pex(self, pex: RemotePex, file: Path) -> None:
        """Write the object into `file`, a new one, with the object's time, and down to the disk.

        A half-uploaded object cannot be met: stores show whole ones only. One that was replaced since it was listed is refused by its
        ETag, and what arrives short by its size; whether it is a sound zip is asked when it is admitted.

        Raises:
            Exception: whatever the library raises, or an OSError. The file may be there in part.
        """
        download_object(self._store, pex.meta, file)
        with file.open("rb") as written:
            size = os.fstat(written.fileno()).st_size
            if size != pex.size_bytes:
                raise OSError(f"{size} bytes came of {pex.size_bytes}")
            os.utime(file, ns=(pex.modified_ns, pex.modified_ns))
            os.fsync(written.fileno())


def _pex(meta: ObjectMeta) -> RemotePex:
    modified = meta["last_modified"]
    stamp = meta["e_tag"] or meta["version"] or modified.isoformat()
    return RemotePex(meta["path"].rpartition("/")[2], meta["size"], stamp, round(modified.timestamp() * 1e9), meta)
