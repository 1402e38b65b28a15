"""How a server reads bytes as requests: the responses up to a known request behind them, and what becomes of the connection."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from typing import NamedTuple

from rawhttp import Answer, Raw, post

PROBES = (1001, 1002, 1003)
"""The x of requests behind the bytes. Several, so that bytes which a server takes for a part of a body are there."""


class Verdict(NamedTuple):
    """How a server reads bytes.

    Attributes:
        responses: The class of each response's status, with the predictions in it, up to the first probe.
        end: "kept" if the probes are answered; "waits" if the server expects more bytes; "forged" if something comes that is no response;
            else "closed".
    """

    responses: tuple[str, ...]
    end: str

    def __str__(self) -> str:
        return " ".join([*self.responses, self.end])


def verdict_of(address: str, data: bytes, methods: Sequence[str] = (), *, size: int | None = None, silent_s: float = 30.0) -> Verdict:
    """Returns how a server reads these bytes.

    Args:
        address: Address of the server.
        data: The bytes, which are sent with probes behind them.
        methods: Methods of the requests in the bytes, if one is HEAD, whose response has no body.
        size: Size of the packets in which they are sent.
        silent_s: A server that sends nothing for so long waits for more bytes.
    """
    found: list[str] = []
    heads = iter([method == "HEAD" for method in methods])
    with Raw(address) as raw:
        raw.socket.settimeout(silent_s)
        with contextlib.suppress(ConnectionError):  # it need not read all of it
            raw.send(data + b"".join(post("/tiny", [{"x": x}]) for x in PROBES), size)
        try:
            while found[-len(PROBES) :] != _ANSWERED:
                answer = raw.answer(head=next(heads, False))
                if answer.status >= 200:
                    found.append(_outcome(answer))
        except (EOFError, ConnectionError):
            return Verdict(tuple(found), "closed")
        except TimeoutError:
            return Verdict(tuple(found), "waits")
        except ValueError:
            return Verdict(tuple(found), "forged")
    return Verdict(tuple(found[: -len(PROBES)]), "kept")


def _outcome(answer: Answer) -> str:
    values = json.loads(answer.body).get("predictions", ()) if answer.status == 200 and answer.body else ()
    return f"{answer.status // 100}xx" + "".join(f"({value:g})" for value in values)


_ANSWERED = [f"2xx({x})" for x in PROBES]
