"""Artifacts and how models are made of them: `import base.artifacts as afs`."""

from base.artifacts.client import Artifact as Artifact
from base.artifacts.client import Client as Client
from base.artifacts.client import FsClient as FsClient
from base.artifacts.config import CacheConfig as CacheConfig
from base.artifacts.template import PathTemplate as PathTemplate
