"""Owns artifacts and the loading of models from them; this module is the API of authors: `import base.artifacts as afs`.

May import base.schema, base.telemetry, base.ipc.cache_control and base.errors.
Called by authors, by base.endpoint for cache configurations and specs, and by base.worker for the cache.
"""

from base.artifacts.clients.filesystem import FsClient as FsClient
from base.artifacts.clients.mlflow import MlflowClient as MlflowClient
from base.artifacts.clients.object_store import ObjectStoreClient as ObjectStoreClient
from base.artifacts.clients.path_template import PathTemplate as PathTemplate
from base.artifacts.clients.protocol import Artifact as Artifact
from base.artifacts.clients.protocol import Client as Client
from base.artifacts.config import CacheConfig as CacheConfig
from base.artifacts.config import FetchAs as FetchAs
from base.artifacts.cron import Cron as Cron
from base.artifacts.spec import ArtifactSpec as ArtifactSpec
from base.artifacts.spec import LatestKey as LatestKey
