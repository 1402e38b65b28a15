"""The lifecycle of a client's connection as a table of (state, event). Pure: knows no parser, transport or request.

    open       IDLE ─▶ HEAD ─▶ BODY, ASGI_BODY or SKIPPING ─▶ IDLE
    draining   LAST_IDLE ─▶ LAST_HEAD ─▶ ...                     the same, but the next request is the last one
    ENDING     no further request is taken; those that were taken are answered
    CLOSED     the client is gone

An event that a state does not allow raises `IllegalTransition`, and nothing changes.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NoReturn


class IllegalTransition(AssertionError):
    """An event that cannot happen in the connection's state, which is a bug of ours. Nothing was changed."""


class ConnectionState(IntEnum):
    """The progress of reading requests from a connection."""

    IDLE = 0
    """No request is being read."""
    HEAD = 1
    """A head is being read."""
    BODY = 2
    """The body of a request of the fast path is being read."""
    ASGI_BODY = 3
    """The body of a request of the ASGI application is being read."""
    SKIPPING = 4
    """A head offers another protocol. It is parsed again without the offer."""
    LAST_IDLE = 5
    LAST_HEAD = 6
    LAST_BODY = 7
    LAST_ASGI_BODY = 8
    LAST_SKIPPING = 9
    ENDING = 10
    CLOSED = 11


class ConnectionEvent(IntEnum):
    """An event on a connection."""

    MESSAGE_BEGUN = 0
    """The parser met the first byte of a request."""
    TAKEN = 1
    """The head is complete, and the fast path takes the request."""
    PASSED = 2
    """The head is complete, and the ASGI application gets the request."""
    SKIPPED = 3
    """The head is complete, and the result of parsing it is not used."""
    MESSAGE_COMPLETE = 4
    """The request is whole, and another may follow."""
    LAST_COMPLETE = 5
    """The request is whole, and its client wants the connection closed after the response."""
    DRAIN = 6
    """The server stops soon: the request that is being read, or else the next one, is the last."""
    STOP = 7
    """No further request is taken, and a request that is not whole is dropped."""
    LOST = 8
    """The client is gone."""


IDLE: Final = ConnectionState.IDLE
HEAD: Final = ConnectionState.HEAD
BODY: Final = ConnectionState.BODY
ASGI_BODY: Final = ConnectionState.ASGI_BODY
SKIPPING: Final = ConnectionState.SKIPPING
LAST_IDLE: Final = ConnectionState.LAST_IDLE
LAST_HEAD: Final = ConnectionState.LAST_HEAD
LAST_BODY: Final = ConnectionState.LAST_BODY
LAST_ASGI_BODY: Final = ConnectionState.LAST_ASGI_BODY
LAST_SKIPPING: Final = ConnectionState.LAST_SKIPPING
ENDING: Final = ConnectionState.ENDING
CLOSED: Final = ConnectionState.CLOSED

MESSAGE_BEGUN: Final = ConnectionEvent.MESSAGE_BEGUN
TAKEN: Final = ConnectionEvent.TAKEN
PASSED: Final = ConnectionEvent.PASSED
SKIPPED: Final = ConnectionEvent.SKIPPED
MESSAGE_COMPLETE: Final = ConnectionEvent.MESSAGE_COMPLETE
LAST_COMPLETE: Final = ConnectionEvent.LAST_COMPLETE
DRAIN: Final = ConnectionEvent.DRAIN
STOP: Final = ConnectionEvent.STOP
LOST: Final = ConnectionEvent.LOST

DRAINING: Final = frozenset((LAST_IDLE, LAST_HEAD, LAST_BODY, LAST_ASGI_BODY, LAST_SKIPPING))
"""The states in which the next request to become whole is the last one."""

IN_HEAD: Final = frozenset((HEAD, LAST_HEAD))
"""The states in which header fields belong to a head."""

READING: Final = frozenset((HEAD, BODY, ASGI_BODY, SKIPPING, LAST_HEAD, LAST_BODY, LAST_ASGI_BODY, LAST_SKIPPING))
"""The states in which a request has begun and is not complete."""


class _Steps(dict[ConnectionEvent, ConnectionState]):
    """The next state by event. A dict, so that a step is an item access, without a call."""

    def __init__(self, state: ConnectionState, steps: dict[ConnectionEvent, ConnectionState]) -> None:
        super().__init__(steps)
        self._state = state

    def __missing__(self, event: ConnectionEvent) -> NoReturn:
        raise IllegalTransition(f"{event.name} in state {self._state.name}")


_TABLE: dict[ConnectionState, dict[ConnectionEvent, ConnectionState]] = {
    IDLE: {MESSAGE_BEGUN: HEAD, DRAIN: LAST_IDLE, STOP: ENDING, LOST: CLOSED},
    HEAD: {TAKEN: BODY, PASSED: ASGI_BODY, SKIPPED: SKIPPING, DRAIN: LAST_HEAD, STOP: ENDING, LOST: CLOSED},
    BODY: {MESSAGE_COMPLETE: IDLE, LAST_COMPLETE: ENDING, DRAIN: LAST_BODY, STOP: ENDING, LOST: CLOSED},
    ASGI_BODY: {MESSAGE_COMPLETE: IDLE, DRAIN: LAST_ASGI_BODY, STOP: ENDING, LOST: CLOSED},
    SKIPPING: {MESSAGE_COMPLETE: IDLE, DRAIN: LAST_SKIPPING, STOP: ENDING, LOST: CLOSED},
    LAST_IDLE: {MESSAGE_BEGUN: LAST_HEAD, DRAIN: LAST_IDLE, STOP: ENDING, LOST: CLOSED},
    LAST_HEAD: {TAKEN: LAST_BODY, PASSED: LAST_ASGI_BODY, SKIPPED: LAST_SKIPPING, DRAIN: LAST_HEAD, STOP: ENDING, LOST: CLOSED},
    LAST_BODY: {MESSAGE_COMPLETE: ENDING, LAST_COMPLETE: ENDING, DRAIN: LAST_BODY, STOP: ENDING, LOST: CLOSED},
    # The application closes the connection with its response, so whatever the client sends until then goes to the application only.
    LAST_ASGI_BODY: {MESSAGE_COMPLETE: LAST_IDLE, DRAIN: LAST_ASGI_BODY, STOP: ENDING, LOST: CLOSED},
    LAST_SKIPPING: {MESSAGE_COMPLETE: LAST_IDLE, DRAIN: LAST_SKIPPING, STOP: ENDING, LOST: CLOSED},
    # Further data is parsed, so that the client can finish sending, and dropped.
    ENDING: {MESSAGE_BEGUN: ENDING, SKIPPED: ENDING, MESSAGE_COMPLETE: ENDING, DRAIN: ENDING, STOP: ENDING, LOST: CLOSED},
    CLOSED: {},
}

NEXT: Final = {state: _Steps(state, steps) for state, steps in _TABLE.items()}
"""The next state of a connection: `NEXT[state][event]`.

Raises:
    IllegalTransition: The state does not allow the event.
"""
