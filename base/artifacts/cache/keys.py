"""The key of each cache entry: parameters as the spec validated them, remembered so that a spec is applied once and not for each batch."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping

from base.artifacts.config import CacheConfig
from base.errors import LoadFailed, PexdockError

log = logging.getLogger(__name__)

Key = frozenset[tuple[str, str]]

NAMES_MAX = 10_000
"""Parameters whose validated form is remembered."""


def key_of(parameters: Mapping[str, str]) -> Key:
    """The same for any order of the parameters."""
    return frozenset(parameters.items())


class CacheKeys:
    """From parameters as requests give them to keys. May be used from any thread."""

    def __init__(self, config: CacheConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._known: OrderedDict[Key, Key] = OrderedDict()

    def known(self, asked: Key) -> Key | None:
        """The key for these parameters, if they were validated before, or need not be."""
        if self._config.spec_validator is None:
            return asked
        with self._lock:
            return self._known.get(asked)

    def validated(self, parameters: Mapping[str, str]) -> dict[str, str]:
        """The parameters as the spec has them; their key is known from now on.

        Raises:
            Misfit: the spec does not admit them.
            LoadFailed: the spec raised what it should not.
        """
        try:
            canonical = self._config.canonical_parameters(parameters)
        except PexdockError:
            raise
        except Exception as exc:  # a validator is the author's code and may raise anything; the serving thread goes on
            log.exception("the spec of an endpoint raised")
            raise LoadFailed(f"the spec of the parameters raised {type(exc).__name__}") from exc
        if self._config.spec_validator is not None:
            with self._lock:
                self._known[key_of(parameters)] = key_of(canonical)
                if len(self._known) > NAMES_MAX:
                    self._known.popitem(last=False)
        return canonical
