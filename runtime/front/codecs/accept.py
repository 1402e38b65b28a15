"""The Accept header: parses media ranges with their qualities, and chooses a media type (RFC 9110, 12.5.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_RANGE = re.compile(r"([!#$%&'*+.^_`|~0-9a-z-]+)/([!#$%&'*+.^_`|~0-9a-z-]+)")
_QUALITY = re.compile(r"0(\.[0-9]*)?|1(\.0*)?")
"""RFC 9110 allows three decimals; more are harmless."""


class MediaRange(NamedTuple):
    """One element of an Accept header: `text/csv`, `text/*` or `*/*`, in lower case, with its quality from 0 to 1."""

    type: str
    subtype: str
    quality: float

    def match_specificity(self, media_type: str) -> int:
        """Returns how closely the range matches: 3 for the type itself, 2 for `type/*`, 1 for `*/*`, 0 for no match."""
        kind, _, subtype = media_type.partition("/")
        if self.type == "*":
            return 1 if self.subtype == "*" else 0
        if self.type != kind:
            return 0
        return 3 if self.subtype == subtype else 2 if self.subtype == "*" else 0


def parse_accept(accept: str) -> list[MediaRange]:
    """Returns the media ranges of an Accept header in their order.

    Skips elements that are not media ranges or have an invalid quality. Ignores other parameters, such as `charset`: the media types that
    the front door offers have none.
    """
    ranges = []
    for element in _split_unquoted(accept.lower(), ","):
        name, *parameters = map(str.strip, _split_unquoted(element, ";"))
        found = _RANGE.fullmatch(name)
        quality = next((value.strip() for key, _, value in (each.partition("=") for each in parameters) if key.strip() == "q"), "1")
        if found is not None and _QUALITY.fullmatch(quality):
            ranges.append(MediaRange(found[1], found[2], float(quality)))
    return ranges


def preferred_media_type(accept: str, offered: Iterable[str]) -> str | None:
    """Returns the offered media type that an Accept header prefers; None if the header accepts none of them.

    The most specific range that matches a media type gives its quality. Between equal qualities, the more specific range decides, then the
    order of the header, then the order of the offer.

    Args:
        accept: The value of the header.
        offered: Media types in lower case, the default first.
    """
    ranges = parse_accept(accept)
    best, best_rank = None, (0.0, 0, 0)
    for media_type in offered:
        matches = ((each.match_specificity(media_type), each.quality, -i) for i, each in enumerate(ranges))
        specificity, quality, position = max(matches, default=(0, 0.0, 0))
        rank = (quality, specificity, position)
        if specificity and quality and rank > best_rank:
            best, best_rank = media_type, rank
    return best


def _split_unquoted(text: str, separator: str) -> Iterator[str]:
    """Splits at separators outside of quoted strings, in time that is linear in the length of the text."""
    if '"' not in text:
        yield from text.split(separator)
        return
    start, quoted, escaped = 0, False, False
    for i, character in enumerate(text):
        if escaped:
            escaped = False
        elif quoted and character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif character == separator and not quoted:
            yield text[start:i]
            start = i + 1
    yield text[start:]
