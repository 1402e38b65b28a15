"""The last log lines of all processes, read and followed through the admin API of a real supervisor."""

from __future__ import annotations

import contextlib
import http.client
import json

import pytest

from operated_supervisor import Operated
from tinypex import write_tiny

SAYS = """
    import polars as pl
    import base.service as svc

    @svc.endpoint(path="/NAME")
    def predict(records_df: pl.DataFrame):
        for _ in range(records_df["x"][0]):
            print("NAME says " + SAID, flush=True)
        return [0] * records_df.height
"""


def says(name, said="'a word'"):
    return SAYS.replace("NAME", name).replace("SAID", said)


@pytest.fixture
def operated(tmp_path):
    made = Operated(tmp_path)
    for name in ("first", "other"):
        write_tiny(made.dist / f"{name}.pex", name, module=says(name))
    return made


class Followed:
    """The lines of a follower."""

    def __init__(self, client):
        self.response = http.client.HTTPResponse(client)
        self.response.begin()

    def __next__(self):
        return json.loads(self.response.readline())


def read_all(lines):
    while True:
        next(lines)


def said(operated, **query):
    reply = operated.admin.get("/logs", params=query)
    assert reply.status_code == 200, reply.text
    return reply.json()["lines"]


def test_each_line_names_its_source(operated):
    """A model's line names its process; others are the supervisor's. For one model, only its lines of both kinds are shown."""
    with operated:
        operated.predictions("/first", 1)
        operated.predictions("/other", 1)
        operated.until(lambda: any(line["text"] == "other says a word" for line in said(operated)))
        (line,) = [line for line in said(operated) if line["text"] == "first says a word"]
        (pid,) = operated.release("first.pex")["worker_pids"]
        assert (line["source"], line["pid"], line["level"]) == ("first 0.1.0", pid, "info")
        about = said(operated, model="First")
        assert {line["source"] for line in about} == {"first 0.1.0", "supervisor"}
        assert not any(line["text"].startswith("other") for line in about)
        assert any("ready at /first" in line["text"] for line in about)
        assert len(said(operated, lines=2)) == 2
        for follow in ("false", "true"):
            reply = operated.admin.get("/logs", params={"model": "nobody", "follow": follow})
            assert (reply.status_code, reply.json()["code"]) == (404, "not_found")
            assert "the models in dist/ are first, other" in reply.json()["detail"]


def test_lines_below_the_log_level_are_kept(operated):
    """`log_level` selects what is printed; the API returns more."""
    operated.settings["log_level"] = "error"
    with operated:
        assert any("ready at /first" in line["text"] for line in said(operated))
        assert "ready at" not in operated.err.read_text()


def test_a_follower_gets_lines_as_they_come(operated):
    """It gets the requested earlier lines first, and then each new one."""
    with operated, operated.saying(b"GET /logs?follow=true&model=first&lines=1 HTTP/1.1\r\nhost: x\r\n\r\n") as client:
        lines = Followed(client)
        assert lines.response.headers["content-type"] == "application/x-ndjson"
        assert "first" in next(lines)["text"]
        for _ in range(2):
            operated.predictions("/other", 1)
            operated.predictions("/first", 1)
            assert next(lines)["text"] == "first says a word"


def test_a_follower_that_does_not_read_is_disconnected(operated):
    """Its lines are not kept forever, nobody else notices, and it can tell, since its response has no end."""
    write_tiny(operated.dist / "chatty.pex", "chatty", module=says("chatty", "'x' * 1000"))
    with operated, operated.saying(b"GET /logs?follow=true HTTP/1.1\r\nhost: x\r\n\r\n") as client:
        lines = Followed(client)
        next(lines)
        operated.predictions("/chatty", 3000)
        operated.until(lambda: sum("chatty says" in line["text"] for line in said(operated, lines=10_000)) > 10)
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError, json.JSONDecodeError)):
            read_all(lines)


def test_the_number_of_followers_is_limited(operated):
    """A follower that leaves makes room, even without new lines."""
    with operated, contextlib.ExitStack() as stack:
        asked = b"GET /logs?follow=true HTTP/1.1\r\nhost: x\r\n\r\n"
        followers = [stack.enter_context(operated.saying(asked)) for _ in range(8)]
        for client in followers:
            next(Followed(client))
        reply = operated.admin.get("/logs", params={"follow": "true"})
        assert (reply.status_code, reply.json()["code"]) == (503, "full")
        followers[0].close()

        def has_room():
            with operated.saying(asked) as client:
                return b" 200 " in client.recv(100)

        operated.until(has_room)


def test_the_state_is_followed_until_a_release_serves(operated):
    """There is a line for each change, and the last one is the present state."""
    with operated, operated.saying(b"GET /models?follow=true HTTP/1.1\r\nhost: x\r\n\r\n") as client:
        states = Followed(client)
        assert next(states) == operated.state()
        write_tiny(operated.dist / "third.pex", "third", module=says("third"))
        seen = []
        while not seen or seen[-1] != "ready":
            seen += [each["state"] for each in next(states)["releases"] if each["file"] == "third.pex"]
        assert len(set(seen)) > 1


def test_a_drain_answers_requests_in_flight_and_ends_all_processes(operated):
    """It does the same as SIGTERM."""
    with operated:
        reply = operated.admin.post("/drain")
        assert (reply.status_code, reply.json()) == (202, {"pid": operated.process.pid})
        assert operated.process.wait(20) == 0
    assert not operated.run_path.exists()
