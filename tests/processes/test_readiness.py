"""Readiness of the machine and of each model, with real supervisors: what fails is named, and never takes the rest out of service."""

import json
import os
import re
import signal
from collections import Counter
from pathlib import Path
from textwrap import dedent

import pytest

from operated_supervisor import Operated
from supervisor_harness import Supervised
from tinypex import times, write_tiny

READS_ARTIFACT = """
    import polars as pl
    import base.artifacts as afs
    import base.service as svc
    from base.schema import Schema

    class Row(Schema):
        x: pl.Int64

    config = afs.CacheConfig(client=afs.FsClient("FOLDER", "/{key}.txt"), load_model=lambda path: int(open(path).read()))

    @svc.endpoint(path="/art/{key}", cache_config=config)
    def predict(model, records_df: Row.DataFrame):
        return records_df["x"] * model
"""

FAILS = "import os\nos.environ['NOT_SET_ANYWHERE']\n"


def state_of(supervised: Supervised, model: str) -> str:
    return supervised.readiness(model).json()["state"]


def test_a_machine_whose_models_all_fail_is_not_ready_and_names_them_also_after_a_restart(tmp_path: Path) -> None:
    """One lacks a variable, one has rubbish in its store, one is rubbish itself. Then they serve, and fail again at the next start."""
    (tmp_path / "store").mkdir()
    artifact = tmp_path / "store" / "a.txt"
    artifact.write_text("rubbish")
    supervised = Operated(tmp_path, worker_env="SECRET_WORD")
    write_tiny(supervised.dist / "needs-0.1.0.pex", "needs", module="import os\nos.environ['SECRET_WORD']\n" + dedent(times(2, "/needs")))
    write_tiny(supervised.dist / "art-0.1.0.pex", "art", module=READS_ARTIFACT.replace("FOLDER", str(artifact.parent)))
    (supervised.dist / "junk-0.1.0.pex").write_bytes(b"rubbish")
    states = {"art": "restarting", "junk": "refused", "needs": "failed"}
    with supervised:
        supervised.until(lambda: {name: each["state"] for name, each in supervised.readiness().json()["models"].items()} == states)
        found = supervised.readiness()
        assert found.status_code == 503
        assert found.json()["not_ready"] == ["art", "junk", "needs"]
        assert supervised.readiness("art").status_code == 503
        assert supervised.readiness("ghost").status_code == 404
        assert supervised.state()["waits_for"] == ["art", "needs"]
        shown = supervised.run("models").stdout
        assert "not ready: /readyz waits for art, needs" in shown
        assert "KeyError: 'SECRET_WORD'" in shown
        assert "add it to worker_env (PEXDOCK_WORKER_ENV=SECRET_WORD)" in supervised.run("models", "--json").stdout
    assert "/readyz reports not ready until art, needs can serve" in supervised.out.read_text()

    artifact.write_text("7")
    os.environ["SECRET_WORD"] = "found"
    try:
        with supervised:
            supervised.until(supervised.is_ready)  # a refused file that never served does not hold it
            assert supervised.readiness().json()["not_ready"] == ["junk"]
            assert supervised.predictions("/art/a") == [21]
    finally:
        del os.environ["SECRET_WORD"]

    artifact.write_text("rubbish")
    with supervised:
        supervised.until(lambda: state_of(supervised, "art") == "restarting")
        found = supervised.readiness()
        assert (found.status_code, found.json()["not_ready"]) == (503, ["art", "junk", "needs"])
        for path, state in (("/art/a", "restarting"), ("/needs", "failed")):
            answer = supervised.ask(path)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert f"is {state}" in answer.json()["detail"]


@pytest.mark.parametrize(("readiness", "expected"), [("started", 503), ("good", 200)])
def test_one_model_serves_and_one_never_did(tmp_path: Path, readiness: str, expected: int) -> None:
    supervised = Supervised(tmp_path, readiness=readiness)
    write_tiny(supervised.dist / "good-0.1.0.pex", "good")
    write_tiny(supervised.dist / "bad-0.1.0.pex", "bad", module=FAILS)
    with supervised:
        supervised.until(lambda: (state_of(supervised, "good"), state_of(supervised, "bad")) == ("ready", "failed"))
        found = supervised.readiness()
        assert (found.status_code, found.json()["not_ready"]) == (expected, ["bad"])
        assert supervised.predictions("/good") == [6]


def test_a_ready_machine_stays_ready_while_a_single_model_fails(tmp_path: Path) -> None:
    """Its worker is killed, a new model cannot load, and the last two are killed at once: only then nothing serves."""
    operated = Operated(tmp_path, restart_delay_min_s=4, workers_per_release=2)
    for name in ("one", "two"):
        write_tiny(operated.dist / f"{name}-0.1.0.pex", name)
    with operated:
        operated.until(operated.is_ready)

        def kill(name: str, count: int) -> None:
            for pid in operated.release(f"{name}-0.1.0.pex")["worker_pids"][:count]:
                os.kill(pid, signal.SIGKILL)

        operated.until(lambda: state_of(operated, "one") == "ready")
        kill("one", 1)
        operated.until(lambda: state_of(operated, "one") == "degraded")
        assert operated.readiness().json() == {"ready": True, "not_ready": []}
        assert operated.predictions("/one") == [6]
        operated.until(lambda: state_of(operated, "one") == "ready")

        kill("one", 2)
        operated.until(lambda: state_of(operated, "one") == "restarting")
        found = operated.readiness()
        assert (found.status_code, found.json()["not_ready"]) == (200, ["one"])
        assert operated.ask("/one").status_code == 503
        kill("two", 2)
        operated.until(lambda: operated.readiness().status_code == 503)
        operated.until(lambda: operated.readiness().json() == {"ready": True, "not_ready": []})

        write_tiny(operated.dist / "bad-0.1.0.pex", "bad", module=FAILS)
        operated.until(lambda: state_of(operated, "bad") == "failed")
        assert (operated.readiness().status_code, operated.readiness().json()["not_ready"]) == (200, ["bad"])
        expected = {"bad": "failed", "one": "ready", "two": "ready"}  # once the second worker of each is back, too
        for shown in (lambda: operated.admin.get("/models").json(), operated.state):
            operated.until(lambda shown=shown: {each["name"]: each["state"] for each in shown()["models"]} == expected)
        (operated.dist / "bad-0.1.0.pex").unlink()
        operated.until(lambda: state_of(operated, "bad") == "unknown")
        assert operated.readiness("bad").status_code == 404


def test_a_model_is_starting_and_warming_before_it_is_ready(tmp_path: Path) -> None:
    """Only one worker starts at a time, and the first one is held."""
    operated = Operated(tmp_path, start_parallel=1)
    held = f"import pathlib, time\nwhile not pathlib.Path({str(tmp_path / 'go')!r}).exists():\n    time.sleep(0.02)\n"
    for name in ("first", "second"):
        write_tiny(operated.dist / f"{name}-0.1.0.pex", name, module=held + dedent(times(2, f"/{name}")))
    operated.start()
    try:
        operated.until(lambda: operated.state().get("address"))
        operated.until(lambda: {each["state"] for each in operated.state()["models"]} == {"starting", "warming"})
        operated.until(lambda: operated.readiness().status_code == 503)
        operated.until(lambda: {state_of(operated, name) for name in ("first", "second")} == {"starting", "warming"})
        assert "is starting" in operated.readiness().json()["reason"]
        (tmp_path / "go").touch()
        operated.until(lambda: operated.readiness().json() == {"ready": True, "not_ready": []})
    finally:
        operated.__exit__()


def test_a_machine_that_shuts_down_is_not_ready_and_still_answers(tmp_path: Path) -> None:
    supervised = Supervised(tmp_path, pre_stop_delay_s=4, drain_s=8)
    write_tiny(supervised.dist / "tiny-0.1.0.pex", "tiny")
    with supervised:
        supervised.process.send_signal(signal.SIGTERM)
        supervised.until(lambda: supervised.readiness().status_code == 503)
        assert (state_of(supervised, "tiny"), supervised.readiness("tiny").status_code) == ("retiring", 503)
        assert supervised.predictions("/tiny") == [6]
        supervised.until(lambda: [each["state"] for each in supervised.state()["models"]] == ["retiring"])


def test_after_a_restart_the_models_that_clients_ask_for_start_first(tmp_path: Path) -> None:
    """Until then their requests are a 503 with Retry-After, are counted, and name the state."""
    metrics, gate = tmp_path / "metrics.log", tmp_path / "go"
    gate.touch()
    operated = Operated(tmp_path, start_parallel=3, emf_path=metrics, emf_interval_s=0.5)
    held = f"import pathlib, time\nwhile not pathlib.Path({str(gate)!r}).exists():\n    time.sleep(0.02)\n"
    for name in "abcdef":
        write_tiny(operated.dist / f"{name}-0.1.0.pex", name, module=held + dedent(times(2, f"/{name}")))
    with operated:
        operated.until(operated.is_ready)
    gate.unlink()
    metrics.unlink()
    operated.err.unlink()
    operated.settings["start_parallel"] = 1
    operated.start()
    try:
        operated.until(lambda: {"starting", "warming"} <= {each["state"] for each in operated.state().get("models", [])})
        for name in "ed":
            operated.until(lambda name=name: re.match(f"model {name} is (starting|warming)", _refusal(operated, name)))
        before = _begun(operated)  # a slot is free after 10 s, so on a slow machine some may have started before they were asked for
        gate.touch()
        operated.until(lambda: operated.readiness().json() == {"ready": True, "not_ready": []})
        asked = [name for name in "ed" if name not in before]
        assert _begun(operated)[len(before) :][: len(asked)] == asked
        assert sorted(_begun(operated)) == [*"abcdef"]
        operated.until(lambda: _sums(metrics, "Requests").get("e"))
        assert _sums(metrics, "Requests")["e"] == _sums(metrics, "Errors")["e"] == 1
        ready = [
            line["ModelReady"]
            for line in map(json.loads, metrics.read_text().splitlines())
            if line["Model"] == "f" and "ModelReady" in line
        ]
        assert ready[0] == 0
        operated.until(lambda: _sums(metrics, "ModelReady").get("f"))
    finally:
        operated.__exit__()


def _refusal(operated: Operated, name: str) -> str:
    """Returns why a model does not answer. The first table, before any file is read, knows no paths."""
    answer = operated.ask(f"/{name}")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    return answer.json()["detail"]


def _begun(operated: Operated) -> list[str]:
    """Returns the models whose first worker has started, in order."""
    return [line.split()[2] for line in operated.err.read_text().splitlines() if line.endswith("its first worker is not ready yet")]


def _sums(metrics: Path, name: str) -> dict[str, int]:
    """Returns model → sum of a metric that has no endpoint."""
    sums: Counter[str] = Counter()
    for line in map(json.loads, metrics.read_text().splitlines() if metrics.exists() else []):
        if name in line and not line["Endpoint"]:
            sums[line["Model"]] += line[name]
    return sums
