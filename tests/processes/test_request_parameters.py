"""Parameters in the query of a request: in all media types, on both HTTP paths, in splits, mirrors and after crashes."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import AsyncIterator, Iterator
from enum import Enum
from pathlib import Path
from urllib.parse import urlencode

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

import base.artifacts as afs
import base.service as svc
from base.ipc.front_door_control import MirrorReport, MirrorSpec, SplitSpec
from base.schema import Schema
from base.testing import TestClient
from front_harness import Front, PendingRequests, Workers, lines
from gate import Gate
from rawhttp import Raw, chunked, post, read_before
from waiting import until

gate = Gate()
ROWS = [{"x": 1.0}, {"x": 2.5}]


class Row(Schema):
    x: pl.Float64


class Options(svc.Parameters):
    factor: float = Field(1.0, le=1000, description="by which rows are multiplied")
    shifts: list[int] = Field([])


class Horizon(svc.Parameters):
    horizon: int = Field(ge=1, examples=[2])


class Region(BaseModel):
    region: str = Field(pattern="^[A-Z]{2}$")


@svc.endpoint("/scaled", batch_max_size=1000, batch_max_delay_ms=0)
def scaled(records_df: Row.DataFrame, options: Options) -> pl.Series:
    (gate.passed if (records_df["x"] == 99).any() else gate.note)(records_df["x"])
    return records_df["x"] * options.factor + sum(options.shifts)


@svc.endpoint("/unbatched")
def unbatched(records_df: Row.DataFrame, options: Options, context: svc.Context) -> pl.Series:
    return records_df["x"] * options.factor + sum(options.shifts)


@svc.endpoint("/trained/{region}", cache_config=afs.CacheConfig(load_model=lambda region: region, spec=Region), max_concurrency=4)
async def trained(model: Region, records_df: Row.DataFrame, spec: Region, region: str, options: Horizon) -> pl.DataFrame:
    return records_df.select(region=pl.lit(f"{model.region}{spec.region}{region}"), horizon=pl.lit(options.horizon, pl.Int64), x="x")


@svc.endpoint("/parts")
async def parts(records_df: Row.DataFrame, options: Horizon | None = None) -> AsyncIterator[dict[str, float]]:
    for _ in range(options.horizon if options else 0):
        yield {"x": records_df["x"].sum()}


@svc.endpoint("/raw", raw=True)
def raw_body(request: svc.Request, options: Horizon) -> dict[str, int]:
    return {"size": len(request.body) * options.horizon}


@svc.endpoint("/plain")
def plain(records_df: Row.DataFrame) -> pl.Series:
    return records_df["x"]


class Colour(Enum):
    RED = "red"


class Typed(svc.Parameters):
    colour: Colour = Colour.RED
    day: dt.date | None = None
    flag: bool = False
    span: dt.timedelta = dt.timedelta(0)
    colours: list[Colour] = Field([])


@svc.endpoint("/typed", raw=True)
def typed(request: svc.Request, options: Typed) -> dict[str, object]:
    return options.model_dump(mode="json", exclude_unset=True)


@pytest.fixture(scope="module")
def served() -> Iterator[TestClient]:
    with TestClient(scaled, unbatched, trained, parts, raw_body, typed, plain) as client:
        client.post("/plain", ROWS)  # the segment that all tests share comes with the first batch
        yield client


@pytest.fixture
def opened() -> Iterator[None]:
    gate.close()
    yield
    gate.open()


def encoded(media_type: str) -> bytes:
    """Returns the rows as a body, written by Polars."""
    frame, file = pl.DataFrame(ROWS), io.BytesIO()
    match media_type:
        case "text/csv":
            return frame.write_csv().encode()
        case "application/x-ndjson":
            return frame.write_ndjson().encode()
        case "application/vnd.apache.parquet":
            frame.write_parquet(file)
        case _:
            frame.write_ipc_stream(file)
    return file.getvalue()


MEDIA_TYPES = ["text/csv", "application/x-ndjson", "application/vnd.apache.parquet", "application/vnd.apache.arrow.stream"]


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
@pytest.mark.parametrize("path", ["/scaled", "/unbatched"])
def test_parameters_come_from_the_query_in_every_media_type(served: TestClient, media_type: str, path: str) -> None:
    for factor in (2.0, 3.0, 2.0):
        answer = served.post(path, content=encoded(media_type), headers={"content-type": media_type}, params={"factor": factor})
        assert answer.json()["predictions"] == [factor, 2.5 * factor]


@pytest.mark.parametrize("send", [post, chunked], ids=["fast", "slow"])
def test_both_ways_in_take_them_again_and_again(served: TestClient, send: object) -> None:
    """Also when the head is known from an earlier request, and whatever the spelling of the query and the order of its names."""
    with Raw(served.address) as raw:
        for _ in range(3):
            for query, factor, shift in (
                ("", 1, 0),
                ("?", 1, 0),
                ("?factor=2", 2, 0),
                ("?factor=%32", 2, 0),
                ("?shifts=1&factor=-2&shifts=4", -2, 5),
                ("?factor=-2&shifts=1&shifts=4&", -2, 5),
            ):
                raw.send(send(f"/scaled{query}", ROWS))  # type: ignore[operator]
                assert raw.answer().json()["predictions"] == [factor + shift, 2.5 * factor + shift], query


@settings(deadline=None)
@given(
    queries=st.lists(
        st.tuples(st.floats(-1000, 1000), st.lists(st.integers(-9, 9), max_size=2), st.lists(st.floats(-10, 10), min_size=1, max_size=3)),
        min_size=1,
        max_size=6,
    )
)
def test_batched_requests_are_answered_like_unbatched_ones(served: TestClient, queries: list[tuple[float, list[int], list[float]]]) -> None:
    """Requests of several parameters that arrive together on one connection."""
    with Raw(served.address) as raw:
        found = {}
        for path in ("/scaled", "/unbatched"):
            for factor, shifts, xs in queries:
                raw.send(post(f"{path}?{urlencode({'factor': factor, 'shifts': shifts}, doseq=True)}", [{"x": x} for x in xs]))
            found[path] = [raw.answer().json()["predictions"] for _ in queries]
    assert found["/scaled"] == found["/unbatched"]
    assert found["/scaled"] == [[x * factor + sum(shifts) for x in xs] for factor, shifts, xs in queries]


@pytest.mark.usefixtures("opened")
def test_requests_share_a_batch_only_if_their_parameters_are_equal(served: TestClient) -> None:
    """A request whose parameters do not fit fails alone, and its handler is not called."""
    queries = ["?factor=2&shifts=1", "?shifts=1&factor=2", "?factor=3", "?factor=2&shifts=1", "?factor=3&", "?factor=1001"]
    expected = [[11.0], [11.0], [15.0], [11.0], [15.0]]
    for query in queries[:5]:
        assert served.post(f"/scaled{query}", ROWS).status == 200  # so that a worker has checked them
    gate.close()
    blocking = post("/scaled", [{"x": 99}])
    with read_before(served.address, [blocking], "/plain") as first:
        gate.wait_entered()
        with read_before(served.address, [blocking], "/plain") as second:  # the worker has as many batches as it may have by now
            with read_before(served.address, [post(f"/scaled{query}", [{"x": 5}]) for query in queries], "/plain") as raws:
                gate.open()
                found = [raw.answer() for raw in raws]
            assert [raw.answer().status for raw in (*first, *second)] == [200, 200]
    assert [each.json().get("predictions") for each in found] == [*expected, None]
    assert found[5].status == 422
    assert sorted(gate.heights[-2:]) == [2, 3]
    assert gate.seen.count(5.0) == 5


@pytest.mark.parametrize("path", ["/scaled", "/unbatched"])
@pytest.mark.parametrize("rows", [ROWS, []], ids=["rows", "no rows"])
@pytest.mark.parametrize(
    ("query", "name", "reason"),
    [
        ("factr=2", "factr", "no such parameter (did you mean 'factor'?); the query may have factor, shifts"),
        ("zebra", "zebra", "no such parameter; the query may have factor, shifts"),
        ("factor=2&factor=2", "factor", "the parameter is given 2 times; give it once"),
        ("factor=1001", "factor", "Input should be less than or equal to 1000, got '1001'"),
        ("factor=1_0", "factor", "write it as '10.0', got '1_0'"),
        ("shifts=1&shifts=x", "shifts", "Input should be a valid integer, unable to parse string as an integer, got 'x'"),
        ("factor=", "factor", "Input should be a valid number, unable to parse string as a number, got ''"),
    ],
)
def test_parameters_that_do_not_fit_are_a_422_by_name(
    served: TestClient, path: str, rows: list[object], query: str, name: str, reason: str
) -> None:
    for _ in range(2):
        answer = served.post(f"{path}?{query}", rows)
        assert (answer.status, answer.json()["code"]) == (422, "misfit")
        assert answer.json()["errors"] == [{"column": name, "reason": reason}]
        assert answer.json()["detail"] == f"the parameters do not fit: {name}: {reason}"


def test_a_query_that_cannot_be_read_is_a_400(served: TestClient) -> None:
    for query, reason in (("factor=%FF", "is not UTF-8"), ("&".join(f"a{i}=1" for i in range(1001)), "more than 1000 fields")):
        answer = served.post(f"/scaled?{query}", ROWS)
        assert answer.status == 400
        assert reason in answer.json()["detail"]


def test_an_endpoint_without_parameters_ignores_the_query(served: TestClient) -> None:
    assert served.post("/plain?factor=2", ROWS).json()["predictions"] == [1.0, 2.5]


def test_they_stand_beside_the_parameters_of_a_path_and_a_spec(served: TestClient) -> None:
    for horizon in (4, 5, 4):
        answer = served.post("/trained/NO", ROWS, params={"horizon": horizon})
        assert answer.json()["predictions"] == [{"region": "NONONO", "horizon": horizon, "x": x} for x in (1.0, 2.5)]
    assert served.post("/trained/no", ROWS, params={"horizon": 4}).json()["errors"][0]["column"] == "region"
    assert served.post("/trained/NO", ROWS, params={"horizon": 0}).json()["errors"][0]["column"] == "horizon"
    assert served.post("/trained/NO", ROWS).json()["errors"] == [{"column": "horizon", "reason": "Field required"}]
    assert served.post("/trained/NO", ROWS, params={"region": "SE", "horizon": 1}).json()["errors"][0]["column"] == "region"


def test_generators_and_raw_handlers_get_them(served: TestClient) -> None:
    assert served.post("/parts", ROWS, params={"horizon": 2}).lines() == [{"x": 3.5}, {"x": 3.5}]
    assert served.post("/raw", content=b"abc", params={"horizon": 2}).json() == {"size": 6}
    for path in ("/parts", "/raw"):
        for params in ({"horizon": "two"}, {}, {"horizon": [1, 2]}):
            assert (path, served.post(path, ROWS, params=params).status) == (path, 422)


def test_a_test_client_gives_values_as_their_class_reads_them(served: TestClient) -> None:
    params = {"colour": Colour.RED, "day": dt.date(2024, 2, 29), "flag": False, "span": dt.timedelta(hours=1), "colours": [Colour.RED] * 2}
    for values in (params, {"flag": True, "day": None}, {"flag": None}, {"colour": "red", "colours": ()}):
        answer = served.post("/typed", content=b"", params=values)
        expected = {"colour": "red", "day": "2024-02-29", "flag": values.get("flag"), "span": "PT1H", "colours": ["red", "red"]}
        assert answer.json() == {name: expected[name] for name, value in values.items() if value is not None and value != ()}, values
    assert served.post("/typed?flag=true", content=b"", params={"colour": Colour.RED}).json() == {"flag": True, "colour": "red"}


def test_the_document_describes_them(served: TestClient) -> None:
    operations = {path: each["post"] for path, each in served.get("/openapi.json").json()["paths"].items() if "post" in each}
    found = {each["name"]: each for each in operations["/scaled"]["parameters"] if each.get("in") == "query"}
    assert found["factor"] == {
        "name": "factor",
        "in": "query",
        "required": False,
        "description": "by which rows are multiplied",
        "schema": {"type": "number", "default": 1.0, "maximum": 1000.0, "title": "Factor"},
    }
    assert found["shifts"]["schema"]["items"] == {"type": "integer"}
    required = [each for each in operations["/parts"]["parameters"] if each.get("in") == "query"]
    assert [(each["name"], each["required"], each["example"]) for each in required] == [("horizon", True, "2")]
    assert not [each for each in operations["/plain"]["parameters"] if each.get("in") == "query"]


# ---- several releases


def test_each_release_of_a_split_reads_the_query_by_its_own_declaration(make: Workers, front: Front) -> None:
    """A release that takes no parameters ignores them; one that takes them refuses the others, only for its own requests."""
    takes, ignores = make("1.0"), make("2.0", "--unscaled")
    front.table(takes.route("takes"), ignores.route("ignores"), sharing=SplitSpec({"takes": 1, "ignores": 1}))
    for query, status in (("factor=3", 200), ("fctor=3", 422), ("factor=-1", 422)):
        answers = front.asked([[{"x": 2}]] * 6, path=f"/tiny/scaled?{query}")
        statuses = [each.status for each in answers]
        assert sorted(statuses) == sorted([200, status] * 3)
        values = sorted(
            (each.json()["predictions"][0]["version"], each.json()["predictions"][0]["x"]) for each in answers if each.status == 200
        )
        assert values == [("1.0", 6.0)] * 3 * (status == 200) + [("2.0", 2.0)] * 3
    for version, x in (("1.0", 8.0), ("2.0", 2.0)):
        answer = front.ask([{"x": 2}], f"X-Pexdock-Version: {version}", path="/tiny/scaled?factor=4")
        assert answer.json()["predictions"] == [{"version": version, "x": x}]


def test_the_parts_of_a_divided_request_have_its_parameters(make: Workers, front: Front, tmp_path: Path) -> None:
    """Rows beyond `batch_max_size` are computed by both workers; a whole request is never divided."""
    logs = [tmp_path / "one", tmp_path / "other"]
    one, other = (make("1.0", "--log", log) for log in logs)
    front.table(one.route("it", other))
    rows = [{"x": x} for x in range(100)]
    assert [each["x"] for each in front.ask(rows, path="/tiny/scaled?factor=3").json()["predictions"]] == [3.0 * x for x in range(100)]
    assert max(len(each) for log in logs for each in lines(log)) <= 16
    assert [each["x"] for each in front.ask(rows, path="/tiny/whole?factor=3").json()["predictions"]] == [3.0 * x for x in range(100)] * 2
    assert max(len(each) for log in logs for each in lines(log)) == 100


def test_a_copy_for_a_mirror_has_the_same_parameters(make: Workers, front: Front) -> None:
    front.table(make("1.0").route("own"), make("1.0").route("shadow"), sharing=SplitSpec({"own": 1}, "", MirrorSpec("shadow", 100.0)))
    answers = [front.ask([{"x": 2}], path=f"/tiny/scaled?factor={factor}&tags=a&tags=b") for factor in (2, 2, 5)]
    assert [each.json()["predictions"][0]["x"] for each in answers] == [4.0, 4.0, 10.0]
    seen: list[MirrorReport] = []
    while sum(each.requests for each in seen) < 3:
        seen.append(front.until(MirrorReport))
    assert [sum(each.equal for each in seen), sum(each.failed + each.skipped for each in seen)] == [3, 0]


def test_a_request_keeps_its_parameters_when_its_worker_dies(make: Workers, front: Front, tmp_path: Path) -> None:
    gate, log = tmp_path / "gate", tmp_path / "log"
    first = make("1.0", "--gate", gate, "--log", log)
    front.table(first.route("it"))
    pending = [PendingRequests(front, [2], f"/tiny/{path}?factor=3") for path in ("scaled", "whole")]
    until(lambda: lines(log), "the worker was not asked")
    first.kill()
    front.table(
        make("1.0").route("it"),
    )
    (answer,), (whole,) = (each.answers() for each in pending)
    assert answer.json()["predictions"] == [{"version": "1.0", "x": 6.0}]
    assert whole.json()["predictions"] == [{"version": "1.0", "x": 6.0}] * 2


def test_a_request_keeps_its_parameters_when_another_release_takes_it_over(make: Workers, front: Front, tmp_path: Path) -> None:
    log = tmp_path / "log"
    first = make("1.0", "--gate", tmp_path / "gate", "--log", log)
    front.table(first.route("it"))
    pending = PendingRequests(front, [2], "/tiny/scaled?factor=3")
    until(lambda: lines(log), "the worker was not asked")
    front.table(make("2.0").route("other"))
    first.kill()
    (answer,) = pending.answers()
    assert answer.json()["predictions"] == [{"version": "2.0", "x": 6.0}]
