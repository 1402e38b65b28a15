"""Places for responses that last long."""

import contextlib

import pytest

from base.errors import Full
from runtime.front.app.jobs.places import Places


def taken(places, stack, client, limit=20):
    """Returns how many places a client can take."""
    for count in range(limit + 1):
        try:
            stack.enter_context(places.take(client, limit))
        except Full:
            return count
    return None


def test_each_client_finds_places_however_many_another_takes():
    places = Places("event streams")
    with contextlib.ExitStack() as stack:
        assert taken(places, stack, "bob") == 11  # ten of twenty while ten are free, and one more
        assert taken(places, stack, "ann") == 5
        with pytest.raises(Full, match="16 event streams are being sent, 11 of them to this client, limit 20"), places.take("bob", 20):
            pass
    with contextlib.ExitStack() as stack:
        assert taken(places, stack, "ann") == 11  # all were given back


def test_without_keys_all_places_are_for_everybody():
    with contextlib.ExitStack() as stack:
        assert taken(Places("results"), stack, "") == 20
