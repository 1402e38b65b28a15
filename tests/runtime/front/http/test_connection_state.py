"""The life of a client's connection: each pair of a state and an event, and each sequence of events that can happen."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runtime.front.http.connection_state import (
    ASGI_BODY,
    BODY,
    CLOSED,
    DRAIN,
    DRAINING,
    ENDING,
    HEAD,
    IDLE,
    IN_HEAD,
    LAST_ASGI_BODY,
    LAST_BODY,
    LAST_COMPLETE,
    LAST_HEAD,
    LAST_IDLE,
    LAST_SKIPPING,
    LOST,
    MESSAGE_BEGUN,
    MESSAGE_COMPLETE,
    NEXT,
    PASSED,
    READING,
    SKIPPED,
    SKIPPING,
    STOP,
    TAKEN,
    ConnectionEvent,
    ConnectionState,
    IllegalTransition,
)

OPEN = [IDLE, HEAD, BODY, ASGI_BODY, SKIPPING]
LAST = {IDLE: LAST_IDLE, HEAD: LAST_HEAD, BODY: LAST_BODY, ASGI_BODY: LAST_ASGI_BODY, SKIPPING: LAST_SKIPPING}
ALIVE = [*OPEN, *LAST.values(), ENDING]

LEGAL = {
    (IDLE, MESSAGE_BEGUN): HEAD,
    (HEAD, TAKEN): BODY,
    (HEAD, PASSED): ASGI_BODY,
    (HEAD, SKIPPED): SKIPPING,
    (BODY, MESSAGE_COMPLETE): IDLE,
    (BODY, LAST_COMPLETE): ENDING,
    (ASGI_BODY, MESSAGE_COMPLETE): IDLE,
    (SKIPPING, MESSAGE_COMPLETE): IDLE,
    (LAST_IDLE, MESSAGE_BEGUN): LAST_HEAD,
    (LAST_HEAD, TAKEN): LAST_BODY,
    (LAST_HEAD, PASSED): LAST_ASGI_BODY,
    (LAST_HEAD, SKIPPED): LAST_SKIPPING,
    (LAST_BODY, MESSAGE_COMPLETE): ENDING,
    (LAST_BODY, LAST_COMPLETE): ENDING,
    (LAST_ASGI_BODY, MESSAGE_COMPLETE): LAST_IDLE,
    (LAST_SKIPPING, MESSAGE_COMPLETE): LAST_IDLE,
    (ENDING, MESSAGE_BEGUN): ENDING,
    (ENDING, SKIPPED): ENDING,
    (ENDING, MESSAGE_COMPLETE): ENDING,
    (ENDING, DRAIN): ENDING,
    **{(state, DRAIN): LAST[state] for state in OPEN},
    **{(state, DRAIN): state for state in LAST.values()},
    **{(state, STOP): ENDING for state in ALIVE},
    **{(state, LOST): CLOSED for state in ALIVE},
}


@pytest.mark.parametrize(("state", "event"), list(product(ConnectionState, ConnectionEvent)))
def test_each_event_leads_where_it_should_or_is_refused_and_changes_nothing(state: ConnectionState, event: ConnectionEvent) -> None:
    """Over all pairs of a state and an event."""
    expected = LEGAL.get((state, event))
    if expected is not None:
        assert NEXT[state][event] is expected
        return
    before = dict(NEXT[state])
    with pytest.raises(IllegalTransition, match=f"{event.name} in state {state.name}"):
        NEXT[state][event]
    assert NEXT[state] == before


def test_the_client_may_go_at_any_time_and_the_server_may_stop_at_any_time() -> None:
    """From every state CLOSED is one step away, and nothing leads away from it."""
    assert {state for state in ConnectionState if LOST not in NEXT[state]} == {CLOSED}
    assert {state for state in ConnectionState if STOP not in NEXT[state]} == {CLOSED}
    assert NEXT[CLOSED] == {}


def test_each_state_can_be_reached() -> None:
    """From the first one."""
    reached, new = {IDLE}, {IDLE}
    while new := {after for state in new for after in NEXT[state].values()} - reached:
        reached |= new
    assert reached == set(ConnectionState)


class Connection(RuleBasedStateMachine):
    """A connection beside plain facts about it, from which its state must follow."""

    def __init__(self) -> None:
        super().__init__()
        self.state = IDLE
        self.reading = self.in_head = self.draining = self.ending = self.fast = self.closed = False

    def step(self, event: ConnectionEvent) -> None:
        self.state = NEXT[self.state][event]

    @precondition(lambda self: not self.closed and not self.reading)
    @rule()
    def begin(self) -> None:
        self.step(MESSAGE_BEGUN)
        self.reading = self.in_head = not self.ending

    @precondition(lambda self: self.in_head)
    @rule(taken=st.booleans())
    def complete_head(self, taken: bool) -> None:
        self.step(TAKEN if taken else PASSED)
        self.in_head, self.fast = False, taken

    @precondition(lambda self: self.reading and not self.in_head)
    @rule(keep_alive=st.booleans())
    def complete(self, keep_alive: bool) -> None:
        self.step(LAST_COMPLETE if self.fast and not keep_alive else MESSAGE_COMPLETE)
        self.ending = self.fast and (self.draining or not keep_alive)
        self.reading = self.fast = False

    @precondition(lambda self: not self.closed)
    @rule()
    def drain(self) -> None:
        self.step(DRAIN)
        self.draining = True

    @precondition(lambda self: not self.closed)
    @rule()
    def stop(self) -> None:
        self.step(STOP)
        self.ending, self.reading, self.in_head, self.fast = True, False, False, False

    @precondition(lambda self: not self.closed)
    @rule()
    def lose(self) -> None:
        self.step(LOST)
        self.closed, self.reading, self.in_head = True, False, False

    @precondition(lambda self: self.closed)
    @rule(event=st.sampled_from(ConnectionEvent))
    def refuse(self, event: ConnectionEvent) -> None:
        with pytest.raises(IllegalTransition):
            self.step(event)

    @invariant()
    def the_state_says_what_the_facts_say(self) -> None:
        assert (self.state is CLOSED) == self.closed
        if not self.closed:
            assert (self.state is ENDING) == self.ending
            assert (self.state in DRAINING) == (self.draining and not self.ending)
        assert (self.state in READING) == self.reading
        assert (self.state in IN_HEAD) == self.in_head


Connection.TestCase.settings = settings(max_examples=100, stateful_step_count=20, deadline=None)
TestConnection = Connection.TestCase
