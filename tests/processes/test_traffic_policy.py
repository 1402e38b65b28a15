"""Traffic policies that operators set, by command and over HTTP, with a real supervisor."""

from __future__ import annotations

import json

import pytest

from operated_supervisor import Operated
from tinypex import times, write_tiny


@pytest.fixture
def operated(tmp_path):
    """Two releases of one model: the newer multiplies by 20, the older by 10."""
    made = Operated(tmp_path, rollback_window_s=60)
    for version, factor in (("0.1.0", 10), ("0.2.0", 20)):
        write_tiny(made.dist / f"tiny-{version}.pex", "tiny", version, times(factor, "/tiny"))
    return made


def model(operated):
    (found,) = operated.state()["models"]
    return found


def factor(operated):
    return operated.predictions("/tiny", 1)[0]


def said(operated, *words):
    done = operated.run(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_pin_moves_all_requests_and_removing_it_moves_them_back(operated):
    """The pinned release is an older one, which is started for that."""
    with operated:
        assert factor(operated) == 20
        assert "pinned to 0.1.0" in said(operated, "pin", "tiny", "0.1.0")
        operated.until(lambda: factor(operated) == 10)
        assert "pinned" not in said(operated, "pin", "tiny", "--off")
        operated.until(lambda: factor(operated) == 20)


def test_a_split_divides_requests_by_weight(operated):
    """The output shows it; without the split one release serves all."""
    with operated:
        assert "split 0.1.0=1 0.2.0=1" in said(operated, "split", "tiny", "0.1.0=1", "0.2.0=1")
        operated.until(lambda: len(model(operated)["serves"]) == 2)
        operated.until(lambda: {factor(operated) for _ in range(10)} == {10, 20})
        assert "0.1.0 50 %, 0.2.0 50 %" in said(operated, "models")
        assert json.loads(said(operated, "split", "tiny", "0.1.0=3", "0.2.0=1", "--by", "header:x-user", "--json"))["by"] == "header:x-user"
        said(operated, "split", "tiny", "--off")
        operated.until(lambda: {factor(operated) for _ in range(10)} == {20})


def test_a_mirror_release_gets_copies_whose_responses_are_compared(operated):
    """No client sees its responses."""
    with operated:
        assert "50 % mirrored to 0.1.0" in said(operated, "shadow", "tiny", "0.1.0", "--percent", 50)
        operated.until(lambda: any(each["version"] == "0.1.0" and each["state"] == "ready" for each in operated.state()["releases"]))

        def compared():
            assert factor(operated) == 20
            return (model(operated)["comparison"] or {}).get("requests")

        operated.until(compared)
        assert "largest deviation 10" in said(operated, "describe", "tiny")
        assert "copied" not in said(operated, "shadow", "tiny", "--off")


def test_a_label_moves_only_to_a_ready_release(operated):
    """It may then be used in place of the version."""
    with operated:
        refused = operated.run("label", "tiny", "canary", "0.1.0")
        assert refused.returncode == 1
        assert "is not ready" in refused.stderr
        assert "labels canary=0.2.0" in said(operated, "label", "tiny", "canary", "0.2.0")
        assert "pinned to canary" in said(operated, "pin", "tiny", "canary")
        refused = operated.run("label", "tiny", "canary", "--off")
        assert refused.returncode == 1
        assert "remove that first" in refused.stderr
        said(operated, "pin", "tiny", "--off")
        assert "labels" not in said(operated, "label", "tiny", "canary", "--off")
        write_tiny(operated.dist / "tiny-0.3.0.pex", "tiny", "0.3.0", times(30, "/tiny"))
        operated.until(lambda: factor(operated) == 30)
        history = operated.until(lambda: [flip["why"] for flip in model(operated)["history"] if flip["what"].startswith("0.3.0")])
        assert history == ["it is the newest release that is ready"]  # and not that a label was removed


def test_a_rollback_and_a_promotion_are_one_command_each(operated):
    """A release that was rolled back serves again only once it is promoted; the history shows both."""
    with operated:
        write_tiny(operated.dist / "tiny-0.3.0.pex", "tiny", "0.3.0", times(30, "/tiny"))
        operated.until(lambda: factor(operated) == 30)
        assert "0.3.0 was rolled back" in said(operated, "rollback", "tiny")
        operated.until(lambda: factor(operated) == 20)
        assert "0.3.0 was rolled back: by an operator at 20" in said(operated, "models")
        said(operated, "promote", "tiny", "0.3.0")
        operated.until(lambda: factor(operated) == 30)
        text = said(operated, "describe", "tiny")
        assert "rolled back" in text
        assert "promoted" in text


def test_describe_shows_endpoints_releases_workers_and_history(operated):
    """As tables, or as JSON with JSON Schemas."""
    with operated:
        text = said(operated, "describe", "Tiny")
        (pid,) = operated.release("tiny-0.2.0.pex")["worker_pids"]
        assert "POST /tiny  (predict; batches of" in text
        assert "input   x Int64" in text
        assert "tiny-0.1.0.pex" in text
        assert f"0.2.0    {pid}" in text
        document = json.loads(said(operated, "describe", "tiny", "--json"))
        (endpoint,) = document["endpoints"]
        assert endpoint["input"]["properties"]["x"]["type"] == "integer"
        (worker,) = [each for each in document["workers"] if each["pid"] == pid]
        assert 10e6 < worker["pss_bytes"] <= worker["rss_bytes"]
        assert document["model"]["history"][-1]["what"].startswith("0.2.0")
        nobody = operated.run("describe", "nobody")
        assert (nobody.returncode, "model nobody does not exist; the models in dist/ are tiny" in nobody.stderr) == (1, True)


@pytest.mark.parametrize(
    "words",
    [
        ("pin", "tiny"),
        ("pin", "tiny", "0.1.0", "--off"),
        ("split", "tiny"),
        ("split", "tiny", "0.1.0"),
        ("split", "tiny", "0.1.0=x", "0.2.0=1"),
        ("split", "tiny", "0.1.0=1", "0.1.0=1"),
        ("shadow", "tiny"),
        ("label", "tiny", "canary"),
        ("completion", "tcsh"),
    ],
)
def test_a_command_with_no_or_contradicting_options_is_refused(operated, words):
    """The exit code is 2, and the supervisor is not called."""
    refused = operated.run(*words)
    assert refused.returncode == 2
    assert "start one with" not in refused.stderr


def test_invalid_policies_over_http_are_refused_with_the_right_status(operated):
    """They change nothing."""
    with operated:
        before = model(operated)
        for method, path, body, status in (
            ("PUT", "/models/tiny/pin", {"to": "9.9.9"}, 404),
            ("PUT", "/models/none/pin", {"to": "0.1.0"}, 404),
            ("PUT", "/models/tiny/pin", {"too": "0.1.0"}, 422),
            ("PUT", "/models/tiny/split", {"weights": {"0.1.0": 1}}, 409),
            ("PUT", "/models/tiny/split", {"weights": {"0.1.0": 0, "0.2.0": 1}}, 409),
            ("PUT", "/models/tiny/split", {"weights": {"0.1.0": 1, "0.2.0": 1}, "by": "colour"}, 409),
            ("PUT", "/models/tiny/shadow", {"to": "0.1.0", "percent": 101}, 409),
            ("PUT", "/models/tiny/labels/No", {"version": "0.2.0"}, 409),
            ("POST", "/models/tiny/rollback", None, 409),
            ("POST", "/models/tiny/promote", {"version": "9.9.9"}, 404),
        ):
            reply = operated.admin.request(method, path, json=body)
            assert (reply.status_code, reply.headers["content-type"]) == (status, "application/problem+json"), reply.text
        assert model(operated) == before
        assert operated.admin.delete("/models/tiny/split").status_code == 200  # there is none, which is what was wanted


def test_traffic_policies_outlive_the_supervisor(operated):
    """A forgotten pin would move requests to a release that nobody wants."""
    with operated:
        said(operated, "pin", "tiny", "0.1.0")
        operated.until(lambda: factor(operated) == 10)
        said(operated, "drain")
        assert operated.process.wait(30) == 0
    with operated:
        operated.until(lambda: factor(operated) == 10)
        assert "pinned to 0.1.0" in said(operated, "models")


def test_the_doctor_knows_what_a_running_supervisor_knows(operated):
    """It reports failed releases with their reason, memory use, and that the port is in use by this supervisor."""
    write_tiny(operated.dist / "raises.pex", "raises", module="import no_such_module")
    with operated:
        operated.until_state("raises.pex", "failed")
        done = operated.run("doctor", "--json")
        said_of = {(each["subject"], each["level"]): each["text"] for each in json.loads(done.stdout)}
        assert done.returncode == 1
        assert "no_such_module" in said_of["raises.pex", "problem"]
        assert said_of["port", "ok"] == f"serving at {operated.state()['address']}"
        assert "processes use" in said_of["memory", "ok"]
