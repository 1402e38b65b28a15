"""The cache of parsed request heads."""

from __future__ import annotations

from typing import cast

from runtime.front.app.head_cache import HEAD_MAX_BYTES, HEADS_MAX, CachedHead, HeadCache
from runtime.front.requests.request_head import RequestHead

CACHED = CachedHead(cast("RequestHead", object()), 3)


def test_a_head_is_found_by_its_exact_bytes_until_the_cache_is_cleared() -> None:
    """A head that differs in one byte is another one."""
    heads = HeadCache()
    find = heads.find
    heads.learn(b"POST /a\r\n\r\n", CACHED)
    assert find(b"POST /a\r\n\r\n") is CACHED
    assert find(b"post /a\r\n\r\n") is None
    heads.clear()
    assert find(b"POST /a\r\n\r\n") is None


def test_the_cache_is_bounded_in_number_and_size() -> None:
    """A head that is too long is not remembered, and a full cache is emptied."""
    heads = HeadCache()
    heads.learn(b"x" * (HEAD_MAX_BYTES + 1), CACHED)
    assert len(heads) == 0
    heads.learn(b"x" * HEAD_MAX_BYTES, CACHED)
    assert len(heads) == 1
    for i in range(3 * HEADS_MAX):
        heads.learn(b"%d" % i, CACHED)
        assert heads.find(b"%d" % i) is CACHED
        assert len(heads) <= HEADS_MAX
