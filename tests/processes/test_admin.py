"""The admin API of a real supervisor on its Unix socket, and the caches of real workers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import stat
import threading
from pathlib import Path

import httpx
import pytest

from operated_supervisor import Operated
from tinypex import write_tiny

STORED = """
    import polars as pl
    import base.artifacts as afs
    import base.service as svc

    def load(content: bytes) -> str:
        text = content.decode()
        if text == "broken":
            raise RuntimeError("cannot be read")
        while text.startswith("/"):  # a named pipe, in which the test writes what the model shall be
            text = open(text).read()
        return text

    stored = afs.CacheConfig(
        client=afs.FsClient(base_path="texts", path_template="/{name}.txt"),
        load_model=load,
        load_as="bytes",
        pre_fetch_all=True,
        max_bytes=1e6,
    )

    @svc.endpoint(path="/stored/{name}", cache_config=stored)
    def predict(model, records_df: pl.DataFrame):
        return [model] * records_df.height
"""

BARE = """
    import polars as pl
    import base.service as svc

    @svc.endpoint(path="/waits")
    def predict(records_df: pl.DataFrame):
        return [open(PIPE).read()] * records_df.height
"""


class Administered(Operated):
    """A supervisor whose models load texts."""

    def __init__(self, folder, **settings):
        super().__init__(folder, artifacts_path=folder / "artifacts", **settings)
        self.texts = folder / "artifacts" / "texts"
        self.texts.mkdir(parents=True)

    def workers(self, model="stored"):
        reply = self.admin.get(f"/models/{model}/cache")
        assert reply.status_code == 200, reply.text
        return reply.json()["workers"]

    def entries(self, worker=0, model="stored"):
        """Returns the cache entries of one worker by their only parameter; none while the worker starts."""
        caches = self.workers(model)[worker]["caches"]
        return {"".join(entry["parameters"].values()): entry for cache in caches for entry in cache["entries"]}

    def refresh(self, model="stored", **order):
        return self.admin.post(f"/models/{model}/refresh", json=order)


@pytest.fixture
def administered(tmp_path):
    made = Administered(tmp_path, unresponsive_s=0)
    (made.texts / "a.txt").write_text("one")
    write_tiny(made.dist / "stored.pex", "stored", module=STORED)
    return made


@pytest.fixture
def pipe(tmp_path):
    """Returns a named pipe whose reader waits until `write_text`."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


def has_stopped(pid):
    """Returns whether every thread of the process is stopped; a signal takes a moment to arrive."""
    return all((task / "stat").read_text().rpartition(")")[2].split()[0] == "T" for task in Path(f"/proc/{pid}/task").iterdir())


def test_every_worker_of_a_release_reports_and_refreshes_its_own_cache(administered):
    """Both have loaded every model, both refresh it, and either serves the change."""
    administered.settings["workers_per_release"] = 2
    (administered.texts / "b.txt").write_text("two!")
    with administered:
        administered.until(lambda: all(set(administered.entries(i)) == {"a", "b"} for i in range(2)))
        administered.until(lambda: all(entry["state"] == "fresh" for i in range(2) for entry in administered.entries(i).values()))
        workers = administered.workers()
        assert [worker["pid"] for worker in workers] == administered.release("stored.pex")["worker_pids"]
        for i, worker in enumerate(workers):
            assert [(cache["endpoint"], cache["path"], cache["held"]) for cache in worker["caches"]] == [("predict", "/stored/{name}", 2)]
            assert administered.entries(i)["b"] | {"age_s": 0} == {
                "parameters": {"name": "b"},
                "state": "fresh",
                "age_s": 0,
                "next_refresh_s": None,
                "loads": 1,
                "failures": 0,
                "last_error": None,
                "bytes": 4,
                "in_use": 0,
            }
        (administered.texts / "a.txt").write_text("changed")
        reply = administered.refresh()
        assert reply.status_code == 202
        pids = [worker["pid"] for worker in workers]
        assert reply.json() | {"workers": [(each["pid"], each["begun"], each["error"]) for each in reply.json()["workers"]]} == {
            "model": "stored",
            "version": "0.1.0",
            "begun": 4,
            "workers": [(pid, 2, None) for pid in pids],
        }
        administered.until(lambda: all(administered.entries(i)["a"]["loads"] == 2 for i in range(2)))
        assert all(administered.entries(i)["b"]["loads"] == 1 for i in range(2))  # it had not changed
        assert {tuple(administered.predictions("/stored/a")) for _ in range(20)} == {("changed",)}


def test_a_model_that_is_loading_is_shown_and_not_loaded_twice(administered, pipe):
    """A refresh starts nothing before the first load has ended, nor while another refresh runs."""
    (administered.texts / "a.txt").write_text(str(pipe))
    os.utime(administered.texts / "a.txt", (2, 2))
    (administered.texts / "b.txt").write_text("newer, so that the worker is ready with it")
    with administered:
        entry = administered.until(lambda: administered.entries().get("a"))
        assert (entry["state"], entry["age_s"], entry["loads"]) == ("loading", None, 0)
        assert administered.refresh(endpoint="predict", parameters={"name": "a"}).json()["begun"] == 0
        pipe.write_text("first")
        administered.until(lambda: administered.entries()["a"]["state"] == "fresh")
        assert administered.predictions("/stored/a") == ["first"]

        os.utime(administered.texts / "a.txt", (1, 1))  # else it is the artifact that is loaded already
        assert administered.refresh(endpoint="/stored/{name}", parameters={"name": "a"}).json()["begun"] == 1
        entry = administered.entries()["a"]
        assert (entry["state"], entry["next_refresh_s"], entry["loads"]) == ("stale", 0, 1)
        assert administered.refresh(endpoint="predict", parameters={"name": "a"}).json()["begun"] == 0
        assert administered.predictions("/stored/a") == ["first"]
        pipe.write_text("second")
        administered.until(lambda: administered.entries()["a"]["loads"] == 2)
        assert administered.predictions("/stored/a") == ["second"]


def test_a_failed_refresh_is_shown_with_its_reason_while_the_previous_model_serves(administered):
    """The next refresh that succeeds clears it."""
    with administered:
        administered.until(lambda: administered.entries().get("a", {}).get("state") == "fresh")
        (administered.texts / "a.txt").write_text("broken")
        assert administered.refresh().json()["begun"] == 1
        entry = administered.until(lambda: administered.entries()["a"]["failures"] and administered.entries()["a"])
        assert (entry["state"], entry["failures"], entry["loads"]) == ("stale", 1, 1)
        reason = "load_failed: load_model raised RuntimeError for name='a'; see the log of the worker (RuntimeError: cannot be read)"
        assert re.sub(r", incident \w+", "", entry["last_error"]) == reason
        assert administered.predictions("/stored/a") == ["one"]
        (administered.texts / "a.txt").write_text("mended")
        administered.refresh()
        entry = administered.until(lambda: administered.entries()["a"]["loads"] == 2 and administered.entries()["a"])
        assert (entry["state"], entry["failures"], entry["last_error"]) == ("fresh", 1, None)


def test_cache_requests_go_to_the_serving_release(administered):
    """They do so from the moment a newer release takes over. Any spelling of the model's name works."""
    with administered:
        assert administered.admin.get("/models/Stored/cache").json()["version"] == "0.1.0"
        write_tiny(administered.dist / "stored-0.2.0.pex", "stored", "0.2.0", module=STORED)
        newer = administered.until_state("stored-0.2.0.pex", "ready")
        reply = administered.admin.get("/models/stored/cache").json()
        assert (reply["version"], [worker["pid"] for worker in reply["workers"]]) == ("0.2.0", newer["worker_pids"])
        assert administered.refresh().json()["version"] == "0.2.0"


def test_a_worker_whose_handler_computes_still_answers(administered, pipe):
    """Another thread reads the control socket."""
    write_tiny(administered.dist / "waits.pex", "waits", module=BARE.replace("PIPE", repr(str(pipe))))
    with administered:
        answers = []
        asking = threading.Thread(target=lambda: answers.append(administered.predictions("/waits")))
        asking.start()
        with pipe.open("w") as writing:  # the handler has it open
            assert [(worker["caches"], worker["error"]) for worker in administered.workers("waits")] == [([], None)]
            writing.write("done")
        asking.join()
        assert answers == [["done"]]


def test_a_worker_that_is_killed_during_a_request_fails_only_its_own_part(administered, pipe):
    """Nobody waits for it until the deadline. While it restarts, the response says so."""
    administered.settings |= {"workers_per_release": 2, "restart_delay_min_s": 30}
    with administered:
        administered.until(lambda: all(administered.entries(i).get("a", {}).get("state") == "fresh" for i in range(2)))
        first, second = administered.release("stored.pex")["worker_pids"]
        os.kill(first, signal.SIGSTOP)
        administered.until(lambda: has_stopped(first))
        (administered.texts / "a.txt").write_text(str(pipe))
        # Once the second has the pipe open, both have been asked.
        with administered.asking("POST", "/models/stored/refresh") as reply, pipe.open("w") as writing:
            os.kill(first, signal.SIGKILL)
            stopped, other = json.loads(reply())["workers"]
            writing.write("changed")
        assert (stopped["pid"], stopped["error"]["code"], stopped["begun"]) == (first, "unavailable", 0)
        assert "was killed by SIGKILL" in stopped["error"]["detail"]
        assert other == {"pid": second, "begun": 1, "error": None}
        administered.until_state("stored.pex", "ready")
        stopped, other = administered.workers()
        assert (stopped["pid"], stopped["caches"]) == (None, [])
        assert (other["pid"], other["error"], other["caches"][0]["held"]) == (second, None, 1)
        assert administered.workers()[0]["error"] == {"code": "unavailable", "detail": "the worker is not ready: restarting"}
        reply = administered.refresh()
        assert (reply.status_code, reply.json()["begun"]) == (202, 1)
        assert [worker["error"] and worker["error"]["code"] for worker in reply.json()["workers"]] == ["unavailable", None]


def test_a_stopped_worker_is_not_waited_for_beyond_the_deadline(administered):
    """Its part of the response reports it; if it is the only worker, the status does. Later it answers again."""
    with administered:
        (pid,) = administered.release("stored.pex")["worker_pids"]
        administered.until(lambda: administered.entries().get("a", {}).get("state") == "fresh")
        os.kill(pid, signal.SIGSTOP)
        administered.until(lambda: has_stopped(pid))
        refusals = []
        asking = threading.Thread(target=lambda: refusals.append(administered.run("refresh", "stored", "--all")))
        asking.start()
        (worker,) = administered.workers()
        assert (worker["pid"], worker["error"]["code"]) == (pid, "deadline_exceeded")
        assert httpx.get(administered.state()["address"] + "/livez").status_code == 200
        asking.join()
        assert refusals[0].returncode == 1
        assert "the worker did not respond within 5 s; it may still carry out the request" in refusals[0].stderr
        os.kill(pid, signal.SIGCONT)
        administered.until(lambda: administered.workers()[0]["error"] is None)
        assert administered.refresh().status_code == 202


def test_an_invalid_admin_request_gets_a_problem_document(administered):
    """The statuses are those of the front door, and include the worker's own errors."""
    write_tiny(administered.dist / "tiny.pex", "tiny")
    write_tiny(administered.dist / "raises.pex", "raises", module="import no_such_module")
    cases = [
        ("GET", "/models/other/cache", None, 404, "not_found", "model other does not exist; the models in dist/ are raises, stored, tiny"),
        ("GET", "/models/raises/cache", None, 404, "not_found", "raises 0.1.0 does not serve: it is failed: "),
        ("GET", "/nothing", None, 404, "not_found", "unknown path"),
        ("DELETE", "/models", None, 405, "bad_request", "method DELETE is not allowed"),
        ("POST", "/models/stored/refresh", b"{", 400, "malformed", "the body is not valid JSON"),
        ("POST", "/models/stored/refresh", b"[]", 422, "misfit", "invalid body"),
        ("POST", "/models/stored/refresh", b'{"parameter": {}}', 422, "misfit", "parameter: Extra inputs are not permitted"),
        ("POST", "/models/stored/refresh", b'"' + b"x" * 70_000 + b'"', 413, "too_large", "the limit is 65536 bytes"),
        ("POST", "/models/stored/refresh", b'{"endpoint": "other"}', 404, "not_found", "stored has no endpoint other"),
        ("POST", "/models/stored/refresh", b'{"parameters": {"title": "a"}}', 422, "misfit", "title: /stored/{name} has no such parameter"),
        ("POST", "/models/tiny/refresh", b"{}", 404, "not_found", "no endpoint of tiny has a cache"),
    ]
    with administered:
        for method, path, body, status, code, detail in cases:
            reply = administered.admin.request(method, path, content=body, headers={"content-type": "application/json"})
            assert (reply.status_code, reply.json()["status"], reply.json()["code"]) == (status, status, code), reply.text
            assert reply.headers["content-type"] == "application/problem+json"
            assert detail in reply.json()["detail"]
        administered.until(lambda: administered.admin.get("/models").json() == administered.state())


def test_only_the_owner_can_use_the_socket_and_it_is_gone_at_the_end(administered):
    """A client of it may have code loaded."""
    with administered:
        assert stat.S_IMODE(administered.socket.stat().st_mode) == 0o600
        assert stat.S_IMODE(administered.run_path.stat().st_mode) == 0o700
    assert not administered.run_path.exists()


def test_hanging_clients_delay_neither_others_nor_the_shutdown(administered):
    """One sends nothing, one stops in its head, one in its body, and one does not read its responses."""
    administered.settings["drain_s"] = 60
    with administered, contextlib.ExitStack() as stack:
        for said in (b"", b"GET /models HT", b"POST /models/stored/refresh HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{", None):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(str(administered.socket))
            if said is None:
                client.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        client.send(b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n" * 100)
            else:
                client.sendall(said)
        assert administered.workers()[0]["error"] is None
        administered.process.send_signal(signal.SIGTERM)
        assert administered.process.wait(30) == 0
    assert not administered.run_path.exists()


def test_the_command_shows_caches_and_refreshes_them(administered):
    """It prints a table for people, JSON for programs, and one line of error for wrong usage."""
    with administered:
        administered.until(lambda: administered.entries().get("a", {}).get("state") == "fresh")
        (pid,) = administered.release("stored.pex")["worker_pids"]
        shown = administered.run("cache")
        assert shown.returncode == 0, shown.stderr
        head, columns, row = shown.stdout.splitlines()
        assert head == "stored 0.1.0"
        assert columns.split("  ")[1] == "WORKER"
        assert row.split()[:4] == [str(pid), "predict", "name=a", "fresh"]
        (model,) = json.loads(administered.run("cache", "stored", "--json").stdout)
        assert model["workers"][0]["caches"][0]["entries"][0]["parameters"] == {"name": "a"}
        done = administered.run("refresh", "stored", "--endpoint", "predict", "--parameter", "name=a")
        assert (done.returncode, done.stdout) == (0, f"stored 0.1.0: 1 refresh started\n  worker {pid}: 1\n")
        refused = administered.run("refresh", "stored", "--parameter", "nothing=a")
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
        assert "nothing: /stored/{name} has no such parameter" in refused.stderr
    nobody = administered.run("cache")
    assert (nobody.returncode, nobody.stderr.count("\n")) == (1, 1)
    assert f"no supervisor runs on {administered.run_path}: start one with `pexdock serve`" in nobody.stderr
