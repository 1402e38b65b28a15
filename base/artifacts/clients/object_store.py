"""ObjectStoreClient: artifacts in S3, Google Cloud Storage, Azure Blob Storage, MinIO and whatever else speaks their protocols.

All go the same way through obstore. The tests talk to a server of S3, by the client for S3 and, for dist/, by that for Google's, whose XML API
is the same; and, for dist/, to Azurite by that for Azure's.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from base.artifacts.clients.protocol import Artifact
from base.artifacts.clients.downloads import MAX_BYTES, Downloads
from base.artifacts.clients.path_template import PathTemplate, parse_templates
from base.errors import NotFound, PexdockError, Unavailable

if TYPE_CHECKING:
    from obstore import ObjectMeta

log = logging.getLogger(__name__)

_PART_BYTES = 16 * 2**20
"""Of a download. The library's time limit is for a request, so that a part may come as slowly as half a megabyte a second."""
_RETRIES = {"max_retries": 3}
"""So that a store that is gone is known in about a second; a refresh tries again later by itself."""
_MANIFEST_MAX_BYTES = 4096


def open_store(url: str, options: Mapping[str, Any] | None = None) -> Any:
    """The store of a URL, as `ObjectStoreClient` takes it. Nothing is asked yet.

    Raises:
        obstore.exceptions.BaseError, ValueError: of the library, for a URL or option that means nothing.
    """
    from obstore.store import from_url  # noqa: PLC0415 - only who has a store pays for the import

    return from_url(url, **{"retry_config": _RETRIES, **(options or {})})


def download_object(store: Any, found: ObjectMeta, file: Path) -> None:
    """Write an object into a new file, in parts, each of the very object that was found: one that is replaced meanwhile is an error,
    never a mixture.

    Raises:
        obstore.exceptions.BaseError, OSError: the file may be there in part.
    """
    import obstore  # noqa: PLC0415 - as above

    with file.open("xb") as out:
        for start in range(0, found["size"], _PART_BYTES):
            end = min(start + _PART_BYTES, found["size"])
            options: Any = {"range": (start, end)} | ({"if_match": found["e_tag"]} if found["e_tag"] else {})
            out.write(obstore.get(store, found["path"], options=options).bytes())


class ObjectStoreClient:
    """Artifacts in an object store. Downloads are kept on disk and shared by the workers of this machine, see `Downloads`.

    Args:
        store: a URL such as `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`, or a store made with `obstore.store`.
            Credentials, region and endpoint come from the environment, by the names that the tools of each cloud read
            (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL` for MinIO ...), or from `options`.
        path_template: the key of an artifact below the URL's prefix, as in `PathTemplate`. It may be an object, or a "folder": all objects
            whose keys begin with it and a slash. Several are fallbacks, as for `FsClient`.
        options: for `obstore.store.from_url`, such as `{"region": "eu-central-1", "client_options": {"allow_http": True}}`.
        cache_path: the folder for downloads; see `Downloads`.
        cache_max_bytes: of all downloads.

    Raises:
        Declaration: a template is wrong, or there is none.
        obstore.exceptions.BaseError, ValueError: of the library, for a URL or option that means nothing.
    """

    def __init__(
        self,
        store: Any,
        path_template: str | Sequence[str],
        *,
        options: Mapping[str, Any] | None = None,
        cache_path: Path | str | None = None,
        cache_max_bytes: int = MAX_BYTES,
    ) -> None:
        self.templates = parse_templates(path_template)
        self.parameters: Sequence[str] = tuple(dict.fromkeys(name for template in self.templates for name in template.parameters))
        self._store = open_store(store, options) if isinstance(store, str) else store
        self._place = _place(self._store)
        self._downloads = Downloads(cache_path, cache_max_bytes)

    def __repr__(self) -> str:
        return f"ObjectStoreClient({self._place}, {[template.text for template in self.templates]})"

    def locate(self, parameters: Mapping[str, str]) -> Artifact:
        """See `Client.locate`. Asks the store, and downloads what is not on disk yet."""
        for key in [str(template.format(parameters)) for template in self.templates]:
            with _errors(self):
                objects = self._objects(key)
            if objects:
                with _errors(self):
                    return self._downloads.artifact(
                        _fingerprint(self._place, key, objects), PurePosixPath(key).name, self._fetcher(key, objects)
                    )
        raise NotFound("no artifact for " + ", ".join(f"{name}={parameters[name]!r}" for name in self.parameters))

    def manifest(self, parameters: Mapping[str, str], name: str, file: str) -> str:
        """See `ManifestClient.manifest`. It may have 4,096 bytes."""
        import obstore  # noqa: PLC0415 - as above

        for path in [template.manifest_path(parameters, name, file) for template in self.templates]:
            with _errors(self):
                found = None if path is None else self._head(str(path))
                if found is not None and found["size"] <= _MANIFEST_MAX_BYTES:
                    return bytes(obstore.get(self._store, found["path"]).bytes()).decode().strip()
        raise NotFound(f"no manifest tells the latest {name}")

    def list(self) -> list[dict[str, str]]:
        """See `Client.list`. Reads the names of all objects below the URL's prefix."""
        import obstore  # noqa: PLC0415 - as above

        found: dict[tuple[tuple[str, str], ...], float] = {}
        with _errors(self):
            for page in obstore.list(self._store):
                for each in page:
                    for parameters in _leading_to(self.templates, each["path"]):
                        key = tuple(sorted(parameters.items()))
                        found[key] = max(found.get(key, 0.0), each["last_modified"].timestamp())
        return [dict(key) for key in sorted(found, key=lambda key: (-found[key], key))]

    def _head(self, key: str) -> ObjectMeta | None:
        import obstore  # noqa: PLC0415 - as above

        try:
            return obstore.head(self._store, key)
        except FileNotFoundError:
            return None

    def _objects(self, key: str) -> list[ObjectMeta]:  # type: ignore[valid-type]
        """The object with this key, or those below it; none if there is nothing."""
        import obstore  # noqa: PLC0415 - as above

        single = self._head(key)
        if single is not None:
            return [single]
        below = [each for page in obstore.list(self._store, prefix=key) for each in page]
        return sorted((each for each in below if each["path"].startswith(f"{key}/")), key=lambda each: each["path"])

    def _fetcher(self, key: str, objects: Sequence[ObjectMeta]) -> Any:
        def fetch(path: Path) -> None:
            for each in objects:
                inside = each["path"].removeprefix(key).strip("/")
                if ".." in PurePosixPath(inside).parts:
                    raise Unavailable("an object of this artifact has a name that leads out of it")
                file = path / inside if inside else path
                file.parent.mkdir(parents=True, exist_ok=True)
                download_object(self._store, each, file)

        return fetch


def _place(store: Any) -> str:
    """What tells this store from others, without its secrets."""
    config = {name: value for name, value in (getattr(store, "config", None) or {}).items() if name in _PLACE}
    return f"{type(store).__name__} {sorted(config.items())} {getattr(store, 'prefix', '')}"


_PLACE = frozenset({"bucket", "endpoint", "account_name", "container_name", "azure_storage_account_name", "azure_container_name"})


def _fingerprint(place: str, key: str, objects: Sequence[ObjectMeta]) -> str:
    digest = hashlib.sha256(f"{place}\0{key}\0".encode())
    for each in objects:
        stamp = each["e_tag"] or each["version"] or each["last_modified"].isoformat()
        digest.update(f"{each['path']}\0{each['size']}\0{stamp}\0".encode())
    return digest.hexdigest()


def _leading_to(templates: Sequence[PathTemplate], key: str) -> Iterator[dict[str, str]]:
    """The parameters of the artifact that this object is, or is a part of."""
    parts = PurePosixPath(key).parts
    for template in templates:
        parameters = template.match(PurePosixPath(*parts[: template.depth])) if len(parts) >= template.depth else None
        if parameters is not None:
            yield parameters


@contextmanager
def _errors(client: ObjectStoreClient) -> Iterator[None]:
    """Whatever the library raises means that the store cannot be asked, or that an object went while it was read."""
    try:
        yield
    except PexdockError:
        raise
    except Exception as exc:
        log.warning("%r: %s: %s", client, type(exc).__name__, exc)
        raise Unavailable("the artifact store cannot be read now") from exc
