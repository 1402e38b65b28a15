"""Authentication of clients by API key."""

from __future__ import annotations

from collections.abc import Iterable

from runtime.http.api_keys import ApiKeys


class Authenticator:
    """Decides whether a request may ask for more than health. Until it has keys, every request may."""

    def __init__(self) -> None:
        self._keys: ApiKeys | None = None

    @property
    def requires_keys(self) -> bool:
        """Whether a request must show an API key."""
        return self._keys is not None

    def require(self, keys: ApiKeys) -> None:
        """Replaces the valid API keys."""
        self._keys = keys

    def admits(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Returns whether these headers, with names in lower case, show a valid key or need none."""
        return self._keys is None or self._keys.admits(headers)
