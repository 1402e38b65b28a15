"""The OpenAPI document of the admin API, checked against a real supervisor with releases, over TCP with its token."""

from __future__ import annotations

import collections
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi import checks

from openapi_requests import DOCUMENTED, operations, try_out
from operated_supervisor import OTHER_TOKEN, TOKEN, Operated
from runtime.supervisor.processes.worker_rpc import PENDING_MAX
from runtime.supervisor.rollout.policy_store import FILE
from runtime.supervisor.status.state import State
from tinypex import write_tiny

SHOWN = {"authorization": f"Bearer {TOKEN}"}
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"}
VERSIONS = ("0.1.0", "0.2.0")
NAMES = (*VERSIONS, "stable", "canary", "9.9.9")

CACHED = """
    import polars as pl
    import base.artifacts as afs
    import base.service as svc
    from base.schema import Schema

    class Row(Schema):
        x: pl.Int64

    config = afs.CacheConfig(client=afs.FsClient("FOLDER", "/{key}.txt"), load_model=lambda path: FACTOR)

    @svc.endpoint(path="/tiny/{key}", cache_config=config)
    def predict(model, records_df: Row.DataFrame):
        return records_df["x"] * model
"""


RIGHT = {
    "PUT /models/{model}/labels/{label}": {"version": "0.2.0"},
    "PUT /models/{model}/pin": {"to": "canary"},
    "PUT /models/{model}/split": {"weights": {"0.1.0": 1, "0.2.0": 3}, "by": "header:x-user"},
    "DELETE /models/{model}/split": None,
    "PUT /models/{model}/shadow": {"to": "0.1.0", "percent": 50},
    "DELETE /models/{model}/shadow": None,
    "POST /models/{model}/promote": {"version": "0.2.0"},
    "POST /models/{model}/refresh": {"endpoint": "predict", "parameters": {"key": "a"}},
}
"""Bodies of requests that are done, as things stand; all other operations take none."""

NOT_DONE = {"POST /models/{model}/rollback", "GET /jobs/{job_id}", "DELETE /jobs/{job_id}"}
"""Operations on what is not there: nothing served before, and there is no job."""


def made(folder: Path) -> Operated:
    """Yields a supervisor with two releases of one model whose caches are filled, an invalid pex, and a token."""
    (folder / "a.txt").touch()
    found = Operated(folder, rollback_window_s=60, pex_max_bytes=1_000_000).listen_on_tcp(folder)
    for version, factor in zip(VERSIONS, ("10", "20"), strict=True):
        module = CACHED.replace("FOLDER", str(folder)).replace("FACTOR", factor)
        write_tiny(found.dist / f"tiny-{version}.pex", "tiny", version, module)
    (found.dist / "torn.pex").write_bytes(b"no pex")
    return found


@pytest.fixture(scope="module")
def operated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operated]:
    with made(tmp_path_factory.mktemp("operated")) as found:
        yield found


def documented(operated: Operated) -> dict:
    return operations(operated.state()["admin_address"] + "/openapi.json", SHOWN)


def model(operated: Operated) -> dict:
    """Returns what is reported of the model that the requests name; others may stem from uploads."""
    return next(each for each in operated.state()["models"] if each["name"] == "tiny")


def assert_all_is_well(operated: Operated, door_pids: list[int]) -> None:
    """Asserts that a model serves, no process died, and the stored policies can be read."""
    operated.until(lambda: operated.predictions("/tiny/a", 1)[0] in (10, 20))
    state = operated.state()
    assert state["front_door_pids"] == door_pids
    assert {each["restarts"] for each in state["releases"]} == {0}
    assert {each["file"] for each in state["releases"] if each["state"] in ("failed", "refused")} == {"torn.pex"}
    assert msgspec.json.decode((operated.run_path / "state.json").read_bytes(), type=State).pid == operated.process.pid
    (file,) = Path(operated.settings["state_path"]).rglob(FILE)
    assert "tiny" in json.loads(file.read_text())["models"]
    assert "Traceback" not in operated.err.read_text()


def aim(case: Case, data: st.DataObject, pex: bytes) -> None:
    """Points a valid request at something that exists, so that it gets further than a 404."""
    case.path_parameters |= {name: value for name, value in {"model": "tiny", "label": "canary"}.items() if name in case.path_parameters}
    if isinstance(case.body, bytes):
        case.body = pex
        case.headers["x-content-sha256"] = hashlib.sha256(pex).hexdigest()
    elif isinstance(case.body, dict):
        case.body |= {name: data.draw(st.sampled_from(NAMES)) for name in case.body.keys() & {"to", "version"}}
        case.body |= {name: value for name, value in {"parameters": {"key": "a"}, "endpoint": "predict"}.items() if name in case.body}
        if "weights" in case.body:
            weights = case.body["weights"].values()
            case.body["weights"] = dict(zip(data.draw(st.sampled_from((VERSIONS, NAMES))), weights, strict=False))


def test_every_operation_matches_its_document(tmp_path):
    """Generated valid and invalid requests get documented statuses, schemas, media types and headers, and no error of the server."""
    pex = write_tiny(tmp_path / "other.pex", "other").read_bytes()
    heard = collections.defaultdict(set)
    with made(tmp_path) as operated:
        door_pids = operated.state()["front_door_pids"]

        def ask(case: Case, mode: GenerationMode, data: st.DataObject) -> None:
            if mode is GenerationMode.POSITIVE and data.draw(st.integers(0, 3)):
                aim(case, data, pex)
            if str(case.query.get("follow")).lower() == "true":
                del case.query["follow"]  # such an answer has no end
            answer = case.call(headers=SHOWN, timeout=30)
            case.validate_response(answer, checks=[*DOCUMENTED, checks.negative_data_rejection])
            late = answer.status_code == 504 and case.path.endswith(("/cache", "/refresh"))  # the machine is busy, and the worker with it
            assert answer.status_code < 500 or late, (case.as_curl_command(), answer.text)
            heard[case.operation.label].add(answer.status_code)

        def ask_rightly(label: str) -> None:
            sent = {"body": pex, "headers": {"x-content-sha256": hashlib.sha256(pex).hexdigest()}} if label.startswith("PUT /dist") else {}
            sent |= {"body": RIGHT[label]} if RIGHT.get(label) else {}
            case = found[label].Case(path_parameters={"model": "tiny", "label": "canary", "file": "other.pex", "job_id": "a"}, **sent)
            answer = case.call(headers=SHOWN, timeout=30)
            case.validate_response(answer, checks=DOCUMENTED)
            assert (answer.status_code < 300) is (label not in NOT_DONE), answer.text

        found = documented(operated)
        for label in [*RIGHT, *(each for each in found if each not in RIGHT and each != "POST /drain")]:
            ask_rightly(label)
        drain = found.pop("POST /drain")
        for operation in found.values():
            try_out(operation, ask, examples=25)
        assert len(heard) == 19
        assert_all_is_well(operated, door_pids)
        try_out(drain, ask, examples=1)
        assert heard["POST /drain"] == {202}
        assert operated.process.wait(20) == 0


def operations_of(operated: Operated) -> list[tuple[str, str]]:
    """Returns each documented method with a path that leads to it."""
    paths = operated.ask_over_tcp("GET", "/openapi.json").json()["paths"]
    values = {"{model}": "tiny", "{label}": "canary", "{file}": "new.pex", "{job_id}": "a"}
    filled = {path: re.sub(r"\{\w+\}", lambda name: values[name[0]], path) for path in paths}
    return [(method.upper(), filled[path]) for path, methods in paths.items() for method in methods]


def test_no_operation_works_without_the_token(operated):
    """Requests from another origin or for another host name get the same refusal without CORS headers, and change nothing."""
    before = operated.state()
    pages = {"origin": "https://evil.example", "host": "evil.example", "content-type": "text/plain", "access-control-request-method": "PUT"}
    asked = operations_of(operated)
    assert len(asked) == 20
    for method, path in [*asked, *(("OPTIONS", path) for _, path in asked)]:
        for token, headers in (("", {}), (OTHER_TOKEN, {}), ("", pages)):
            reply = operated.ask_over_tcp(method, path, token, headers=headers, content=b"{}")
            assert (reply.status_code, reply.json()["code"]) == (401, "unauthorized"), (method, path)
            assert reply.headers["www-authenticate"] == "Bearer"
            assert not [name for name in reply.headers if name.startswith("access-control-")]
    allowed = operated.ask_over_tcp("GET", "/models", headers=pages)  # a page cannot have the token, and whoever has it is no page
    assert (allowed.status_code, [name for name in allowed.headers if name.startswith("access-control-")]) == (200, [])
    assert operated.state() == before


def test_an_unsupported_method_gets_the_supported_ones(operated):
    """They are in `Allow`, as documented."""
    taken = collections.defaultdict(set)
    for method, path in operations_of(operated):
        taken[path].add(method)
    for path, methods in taken.items():
        for method in sorted(METHODS - methods):
            reply = operated.ask_over_tcp(method, path)
            assert (reply.status_code, set(reply.headers["allow"].split(", "))) == (405, methods), (method, path)
            assert reply.headers["content-type"] == "application/problem+json"


HOSTILE = [
    ("pin", b'{"to":"\\ud800"}', 422, "to: Input should be a valid string"),
    ("pin", b'{"to":"0.1.0\\n2026 INFO tiny: forged"}', 422, "to: Value error, a name must not contain control characters"),
    ("pin", b'{"to":"0.1.0\\u0000"}', 422, "must not contain control characters"),
    ("pin", b'{"to":""}', 422, "to: String should have at least 1 character"),
    ("pin", b'{"to":"\xff"}', 400, "parsing the body"),
    ("pin", b"[" * 60_000, 400, "parsing the body"),
    ("pin", b'{"to":' + b"1" * 5000 + b"}", 400, "parsing the body"),
    ("pin", b'{"to":"' + b"x" * 70_000 + b'"}', 413, "65536 bytes"),
    ("split", b'{"weights":{"\\ud800":1,"0.2.0":1}}', 422, "[key]: Input should be a valid string"),
    ("split", b'{"weights":{"0.1.0":true,"0.2.0":1}}', 422, "weights.0.1.0: Input should be a valid integer"),
    ("split", b'{"weights":{"0.1.0":"1","0.2.0":1}}', 422, "weights.0.1.0: Input should be a valid integer"),
    ("split", b'{"weights":{"0.1.0":NaN,"0.2.0":1}}', 422, "weights.0.1.0: Input should be a valid integer"),
    ("split", b'{"weights":{"0.1.0":' + b"9" * 400 + b',"0.2.0":1}}', 409, "must be from 1 to 10000"),
    (
        "split",
        b'{"weights":{"0.1.0":1,"0.2.0":1},"by":"header:x\\ud800"}',
        422,
        "by: Value error, text must not contain half",
    ),
    ("split", b'{"weights":{"0.1.0":1,"0.2.0":1},"by":"header:a b"}', 409, "is not header:NAME"),
    ("split", b'{"weights":{"0.1.0":1,"0.2.0":1},"by":"column:a\\u0000"}', 409, "is not header:NAME"),
    ("shadow", b'{"to":"0.1.0","percent":NaN}', 409, "cannot mirror nan % of the requests"),
    ("shadow", b'{"to":"0.1.0","percent":"5"}', 422, "percent: Input should be a valid number"),
    ("shadow", b'{"to":"0.1.0","percent":true}', 422, "percent: Input should be a valid number"),
    ("labels/a%00b", b'{"version":"0.2.0"}', 409, "is not a label"),
    ("labels/%2e%2e", b'{"version":"0.2.0"}', 409, "is not a label"),
    ("labels/" + "a" * 33, b'{"version":"0.2.0"}', 409, "is not a label"),
    ("labels/%F0%9F%98%80", b'{"version":"0.2.0"}', 409, "is not a label"),
    ("labels/..%2f..%2fpin", b'{"version":"0.2.0"}', 404, "unknown path"),
]


def test_an_invalid_request_is_refused_with_the_reason_and_changes_nothing(operated):
    """The error may be in the body or in the path. No request can forge a line of the log."""
    before = model(operated)
    for path, body, status, reason in HOSTILE:
        reply = operated.ask_over_tcp("PUT", f"/models/tiny/{path}", content=body, headers={"content-type": "application/json"})
        assert (reply.status_code, reply.headers["content-type"]) == (status, "application/problem+json"), (path, body[:80], reply.text)
        assert reason in reply.json()["detail"], (path, body[:80], reply.text)
        if path.startswith("labels"):
            assert operated.ask_over_tcp("DELETE", f"/models/tiny/{path}").status_code == status
    assert model(operated) == before
    assert "forged" not in operated.err.read_text()
    assert "Traceback" not in operated.err.read_text()


def test_a_request_that_cannot_be_sent_to_a_worker_does_not_count_as_pending(operated):
    """However often it is tried, the worker still answers valid requests."""
    bodies = (b'{"endpoint":"\\ud800"}', b'{"parameters":{"key":"\\udfff"}}', b'{"parameters":{"\\ud800":"a"}}')
    for number in range(PENDING_MAX + 1):
        body = bodies[number % len(bodies)]
        reply = operated.ask_over_tcp("POST", "/models/tiny/refresh", content=body, headers={"content-type": "application/json"})
        assert (reply.status_code, "must not contain half of a surrogate pair" in reply.json()["detail"]) == (422, True), reply.text
    assert operated.predictions("/tiny/a", 1) == [20]
    reply = operated.ask_over_tcp("POST", "/models/tiny/refresh", json={"parameters": {"key": "a"}})
    assert (reply.status_code, reply.json()["begun"]) == (202, 1)
