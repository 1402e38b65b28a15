"""ObjectStoreClient: finds artifacts in S3, Google Cloud Storage, Azure Blob Storage, MinIO and other stores with their protocols.

All of them go through obstore. The tests use an S3 server with the S3 client and, for dist/, with Google's client, whose XML API is the
same; for dist/ they also use Azurite with Azure's client.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from base.artifacts.clients.downloads import MAX_BYTES, Downloads
from base.artifacts.clients.path_template import PathTemplate, parse_templates
from base.artifacts.clients.protocol import Artifact
from base.errors import NotFound, PexdockError, Unavailable
from base.log import get_logger

if TYPE_CHECKING:
    from obstore import ObjectMeta

log = get_logger(__name__)

_PART_BYTES = 16 * 2**20
"""Bytes of one part of a download. The library's time limit of a request then allows rates down to half a megabyte per second."""
_RETRIES = {"max_retries": 3}
"""With these retries, requests to an unreachable store fail in about a second; a refresh is retried later anyway."""
_MANIFEST_MAX_BYTES = 4096


def open_store(url: str, options: Mapping[str, Any] | None = None) -> Any:
    """Returns the store of a URL, as `ObjectStoreClient` takes it. Sends no request.

    Raises:
        obstore.exceptions.BaseError, ValueError: The URL or an option is invalid.
    """
    from obstore.store import from_url  # noqa: PLC0415 - only users of a store pay for the import

    return from_url(url, **{"retry_config": _RETRIES, **(options or {})})


def download_object(store: Any, found: ObjectMeta, file: Path) -> None:
    """Writes an object into a new file, in parts. Fails if the object is replaced meanwhile, so that parts never mix.

    Raises:
        obstore.exceptions.BaseError, OSError: The download failed; a part of the file may exist.
    """
    import obstore  # noqa: PLC0415 - see `open_store`

    with file.open("xb") as out:
        for start in range(0, found["size"], _PART_BYTES):
            end = min(start + _PART_BYTES, found["size"])
            options: Any = {"range": (start, end)} | ({"if_match": found["e_tag"]} if found["e_tag"] else {})
            out.write(obstore.get(store, found["path"], options=options).bytes())


class ObjectStoreClient:
    """Finds artifacts in an object store. Downloads are stored on disk and shared by the workers of this machine; see `Downloads`.

    Args:
        store: A URL such as `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`, or a store made with `obstore.store`.
            Credentials, region and endpoint come from the environment, by the names that the tools of each cloud read
            (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL` for MinIO), or from `options`.
        path_template: The key of an artifact below the URL's prefix, as in `PathTemplate`. It may be an object, or a "folder": all objects
            whose keys begin with it, followed by a slash. Further templates are fallbacks, as for `FsClient`.
        options: Arguments of `obstore.store.from_url`, such as `{"region": "eu-central-1", "client_options": {"allow_http": True}}`.
        cache_path: The folder of downloads; see `Downloads`.
        cache_max_bytes: Maximum bytes of all downloads.

    Raises:
        Declaration: A template is invalid, or there is none.
        obstore.exceptions.BaseError, ValueError: The URL or an option is invalid.
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
        self._identity = _identity(self._store)
        self._downloads = Downloads(cache_path, cache_max_bytes)

    def __repr__(self) -> str:
        return f"ObjectStoreClient({self._identity}, {[template.text for template in self.templates]})"

    def locate(self, parameters: Mapping[str, str]) -> Artifact:
        """Returns an artifact, see `Client.locate`. Asks the store, and downloads the artifact unless it is on disk."""
        for key in [str(template.format(parameters)) for template in self.templates]:
            with _errors(self):
                objects = self._objects(key)
            if objects:
                with _errors(self):
                    return self._downloads.artifact(
                        _fingerprint(self._identity, key, objects), PurePosixPath(key).name, self._fetcher(key, objects)
                    )
        raise NotFound("no artifact for " + ", ".join(f"{name}={parameters[name]!r}" for name in self.parameters))

    def manifest(self, parameters: Mapping[str, str], name: str, file: str) -> str:
        """Returns the value in a manifest, see `ManifestClient.manifest`. Ignores manifests of more than 4,096 bytes."""
        import obstore  # noqa: PLC0415 - see `open_store`

        for path in [template.manifest_path(parameters, name, file) for template in self.templates]:
            with _errors(self):
                found = None if path is None else self._head(str(path))
                if found is not None and found["size"] <= _MANIFEST_MAX_BYTES:
                    return bytes(obstore.get(self._store, found["path"]).bytes()).decode().strip()
        raise NotFound(f"no manifest gives the latest {name}")

    def list(self) -> list[dict[str, str]]:
        """Lists the artifacts, see `Client.list`. Reads the keys of all objects below the URL's prefix."""
        import obstore  # noqa: PLC0415 - see `open_store`

        found: dict[tuple[tuple[str, str], ...], float] = {}
        with _errors(self):
            for page in obstore.list(self._store):
                for each in page:
                    for parameters in _matching_parameters(self.templates, each["path"]):
                        key = tuple(sorted(parameters.items()))
                        found[key] = max(found.get(key, 0.0), each["last_modified"].timestamp())
        return [dict(key) for key in sorted(found, key=lambda key: (-found[key], key))]

    def store(self, parameters: Mapping[str, str], source: Path) -> None:
        """Stores a file as one object by the first template, see `StoringClient.store`."""
        import obstore  # noqa: PLC0415 - see `open_store`

        key = str(self.templates[0].format(parameters))
        with _errors(self):
            obstore.put(self._store, key, source)

    def delete(self, parameters: Mapping[str, str]) -> None:
        """Deletes an object, see `StoringClient.delete`."""
        import obstore  # noqa: PLC0415 - see `open_store`

        key = str(self.templates[0].format(parameters))
        with _errors(self), suppress(FileNotFoundError):
            obstore.delete(self._store, key)

    def find(self, parameters: Mapping[str, str]) -> Iterator[dict[str, str]]:
        """Yields the parameters of artifacts with these values, see `StoringClient.find`. Reads only the keys below their folder."""
        import obstore  # noqa: PLC0415 - see `open_store`

        with _errors(self):
            for template in self.templates:
                prefix = template.prefix(parameters)
                pages = obstore.list(self._store, prefix=None if prefix == PurePosixPath() else f"{prefix}/")
                keys = [each["path"] for page in pages for each in page]
                yield from (each for key in keys for each in _matching_parameters([template], key) if parameters.items() <= each.items())

    def _head(self, key: str) -> ObjectMeta | None:
        import obstore  # noqa: PLC0415 - see `open_store`

        try:
            return obstore.head(self._store, key)
        except FileNotFoundError:
            return None

    def _objects(self, key: str) -> list[ObjectMeta]:  # type: ignore[valid-type]
        """Returns the object with this key, or the objects below it; empty if there are none."""
        import obstore  # noqa: PLC0415 - see `open_store`

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
                    raise Unavailable("an object of the artifact has a key that leads out of its folder")
                file = path / inside if inside else path
                file.parent.mkdir(parents=True, exist_ok=True)
                download_object(self._store, each, file)

        return fetch


def _identity(store: Any) -> str:
    """Returns text that identifies the store, without its secrets."""
    config = {name: value for name, value in (getattr(store, "config", None) or {}).items() if name in _IDENTITY_KEYS}
    return f"{type(store).__name__} {sorted(config.items())} {getattr(store, 'prefix', '')}"


_IDENTITY_KEYS = frozenset({"bucket", "endpoint", "account_name", "container_name", "azure_storage_account_name", "azure_container_name"})


def _fingerprint(store_identity: str, key: str, objects: Sequence[ObjectMeta]) -> str:
    digest = hashlib.sha256(f"{store_identity}\0{key}\0".encode())
    for each in objects:
        stamp = each["e_tag"] or each["version"] or each["last_modified"].isoformat()
        digest.update(f"{each['path']}\0{each['size']}\0{stamp}\0".encode())
    return digest.hexdigest()


def _matching_parameters(templates: Sequence[PathTemplate], key: str) -> Iterator[dict[str, str]]:
    """Yields the parameters of the artifacts that consist of this object, or contain it."""
    parts = PurePosixPath(key).parts
    for template in templates:
        parameters = template.match(PurePosixPath(*parts[: template.depth])) if len(parts) >= template.depth else None
        if parameters is not None:
            yield parameters


@contextmanager
def _errors(client: ObjectStoreClient) -> Iterator[None]:
    """Turns errors of the library into Unavailable: the store cannot be reached, or an object was deleted while it was read."""
    try:
        yield
    except PexdockError:
        raise
    except Exception as exc:
        log.warning("%r: %s: %s", client, type(exc).__name__, exc)
        raise Unavailable("the artifact store is unavailable; try again later") from exc
