"""A dist/ in an object store: lists its pexes and downloads them. Blocks, and keeps no state."""

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
    """One object as a listing shows it.

    Attributes:
        name: Its file name.
        size_bytes: Its size.
        stamp: Changes with its content: the ETag, or else the version or the time.
        modified_ns: Time of its last change.
        meta: Entry of the listing.
    """

    name: str
    size_bytes: int
    stamp: str
    modified_ns: int
    meta: ObjectMeta


class RemoteDist:
    """The objects directly below a URL. Credentials, region and endpoint come from the environment variables of each cloud.

    Raises:
        PexdockError: The URL is not valid, or does not fit the environment.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            self._store: Any = open_store(url)
        except Exception as exc:  # the library's errors have no narrower common base
            raise PexdockError(f"cannot use {url} as dist_url: {exc}") from exc

    def list_pexes(self) -> list[RemotePex]:
        """Returns all pexes and their signatures, the oldest first, with one request per thousand objects. Ignores subfolders.

        Raises:
            Exception: Any error of the library: the store cannot be reached.
        """
        import obstore  # noqa: PLC0415 - only a supervisor that follows a store pays for the import

        found = [_remote_pex(meta) for meta in obstore.list_with_delimiter(self._store)["objects"]]
        return sorted((pex for pex in found if belongs_to_dist(pex.name)), key=lambda pex: (pex.modified_ns, pex.name))

    def download_pex(self, pex: RemotePex, file: Path) -> None:
        """Downloads an object into the new file `file`, sets the object's time, and flushes it to the disk.

        Stores show only complete objects. An object that was replaced since it was listed is refused by its ETag, and a truncated download
        by its size. Admission checks later that the file is a valid zip.

        Raises:
            Exception: Any error of the library, or an OSError. A part of the file may be there.
        """
        download_object(self._store, pex.meta, file)
        with file.open("rb") as written:
            size = os.fstat(written.fileno()).st_size
            if size != pex.size_bytes:
                raise OSError(f"received {size} of {pex.size_bytes} bytes")
            os.utime(file, ns=(pex.modified_ns, pex.modified_ns))
            os.fsync(written.fileno())


def _remote_pex(meta: ObjectMeta) -> RemotePex:
    modified = meta["last_modified"]
    stamp = meta["e_tag"] or meta["version"] or modified.isoformat()
    return RemotePex(meta["path"].rpartition("/")[2], meta["size"], stamp, round(modified.timestamp() * 1e9), meta)
