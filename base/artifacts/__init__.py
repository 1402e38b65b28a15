"""Artifacts and how models are made of them: `import base.artifacts as afs`."""

from base.artifacts.client import Artifact as Artifact
from base.artifacts.client import Client as Client
from base.artifacts.config import CacheConfig as CacheConfig
from base.artifacts.config import FetchAs as FetchAs
from base.artifacts.cron import Cron as Cron
from base.artifacts.folder import FsClient as FsClient
from base.artifacts.objects import ObjectStoreClient as ObjectStoreClient
from base.artifacts.registry import MlflowClient as MlflowClient
from base.artifacts.spec import ArtifactSpec as ArtifactSpec
from base.artifacts.spec import LatestKey as LatestKey
from base.artifacts.template import PathTemplate as PathTemplate
