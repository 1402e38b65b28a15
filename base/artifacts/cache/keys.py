"""The keys of cache entries: parameters as the spec validated them, remembered so that the spec does not run for each batch."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping

from base.artifacts.config import CacheConfig
from base.errors import LoadFailed, PexdockError
from base.log import get_logger, log_incident

log = get_logger(__name__)

Key = frozenset[tuple[str, str]]

KNOWN_MAX = 10_000
"""Maximum number of parameters whose validated form is remembered."""


def key_of(parameters: Mapping[str, str]) -> Key:
    """Returns the key of the parameters, which does not depend on their order."""
    return frozenset(parameters.items())


class CacheKeys:
    """Maps parameters as requests give them to keys. May be used from any thread."""

    def __init__(self, config: CacheConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._known: OrderedDict[Key, Key] = OrderedDict()

    def known_key(self, requested: Key) -> Key | None:
        """Returns the key for these parameters if they were validated before or there is no spec, else None."""
        if self._config.spec_validator is None:
            return requested
        with self._lock:
            return self._known.get(requested)

    def validate(self, parameters: Mapping[str, str]) -> dict[str, str]:
        """Returns the parameters as the spec validates them, and remembers their key.

        Raises:
            Misfit: The spec rejects them.
            LoadFailed: The spec raised an unexpected exception.
        """
        try:
            canonical = self._config.canonical_parameters(parameters)
        except PexdockError:
            raise
        except Exception as exc:  # a validator is the author's code and may raise anything; the serving thread continues
            where = log_incident(log, "the spec of an endpoint raised", exc)
            raise LoadFailed(f"the spec of the parameters raised {type(exc).__name__}; {where}") from exc
        if self._config.spec_validator is not None:
            with self._lock:
                self._known[key_of(parameters)] = key_of(canonical)
                if len(self._known) > KNOWN_MAX:
                    self._known.popitem(last=False)
        return canonical
