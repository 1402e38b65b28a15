"""Fitted contexts: fit once, predict from anywhere, over a real front door and several processes."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import polars as pl
import pytest

import base.artifacts as afs
import base.service as svc
from base.contexts.digest import digest_of
from base.errors import Declaration
from base.schema import Schema
from base.testing import TestClient, TestResponse


class History(Schema):
    y: pl.Float64


class Steps(Schema):
    step: pl.Int64


class Forecast(Schema):
    y: pl.Float64


class Options(svc.Parameters):
    factor: float = 1.0


def save(model: float, path: Path) -> None:
    path.write_text(json.dumps(model))


def load(path: str) -> float:
    return float(json.loads(Path(path).read_text()))


class Fixture:
    """Contexts whose fit is the mean of a table; counts the calls of both handlers."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.fits: list[list[float]] = []
        self.contexts = contexts = svc.Contexts(
            "/mean",
            afs.FsClient(root, "fits/{context_id}/{version}"),
            save_model=save,
            load_model=load,
            **{"refresh": timedelta(seconds=0.1), **settings},
        )

        @contexts.fit()
        def fit(history: History.DataFrame, options: Options) -> float:
            self.fits.append(history["y"].to_list())
            if history.height == 0:
                raise ValueError("nothing to fit")
            return float(history["y"].mean()) * options.factor  # type: ignore[arg-type]

        @contexts.predict()
        def predict(model: float, records_df: Steps.DataFrame) -> Forecast.DataFrame:
            return records_df.select(y=pl.lit(model) * pl.col("step").cast(pl.Float64))

        self.fit, self.predict = fit, predict


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEXDOCK_CACHE_PATH", str(tmp_path / "cache"))


@pytest.fixture
def fixture(tmp_path: Path, cache_folder: None) -> Fixture:
    return Fixture(tmp_path / "store")


def until(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.05)


def answer(response: TestResponse) -> Any:
    assert response.status == 200, response
    return response.json()["predictions"]


HISTORY = [{"y": 1.0}, {"y": 3.0}]


def predicted(client: TestClient, context: str) -> TestResponse:
    return client.post(f"/mean/predict/{context}", json=[{"step": 1}, {"step": 10}])


def test_equal_tables_are_fitted_once_and_predicted_from(fixture: Fixture) -> None:
    """The id is the digest of table and parameters. Another parameter, value or order of rows is another context."""
    with TestClient(*fixture.contexts.endpoints) as client:
        first = answer(client.post("/mean/fit", json=HISTORY))
        assert (first["fitted"], len(first["context_id"]), first["bytes"]) == (True, 32, 3)
        again = answer(client.post("/mean/fit", json=HISTORY))
        assert again == {name: first[name] for name in ("context_id", "version", "created")} | {"fitted": False}
        assert answer(predicted(client, first["context_id"])) == [{"y": 2.0}, {"y": 20.0}]
        others = [
            answer(client.post("/mean/fit?factor=3", json=HISTORY))["context_id"],
            answer(client.post("/mean/fit", json=HISTORY[::-1]))["context_id"],
            answer(client.post("/mean/fit", json=HISTORY[:1]))["context_id"],
        ]
        assert len({first["context_id"], *others}) == 4
        assert answer(predicted(client, others[0])) == [{"y": 6.0}, {"y": 60.0}]
    assert len(fixture.fits) == 4


def test_twenty_equal_fits_at_a_time_are_one(fixture: Fixture) -> None:
    """Each client gets the same answer, whoever fitted."""
    replies: list[dict[str, Any]] = []
    with TestClient(*fixture.contexts.endpoints) as client:
        threads = [threading.Thread(target=lambda: replies.append(answer(client.post("/mean/fit", json=HISTORY)))) for _ in range(20)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert len(fixture.fits) == 1
    assert len({each["version"] for each in replies}) == 1
    assert sum(each["fitted"] for each in replies) == 1


def test_a_client_may_name_its_context_and_fit_it_again(fixture: Fixture, tmp_path: Path) -> None:
    """The newest version counts, once the worker has looked; the store keeps two versions."""
    with TestClient(*fixture.contexts.endpoints) as client:
        versions = []
        for i in range(1, 5):
            reply = answer(client.request("PUT", "/mean/contexts/customer-7", json=[{"y": float(i)}]))
            assert (reply["context_id"], reply["fitted"]) == ("customer-7", True)
            versions.append(reply["version"])
            until(lambda i=i: answer(predicted(client, "customer-7")) == [{"y": float(i)}, {"y": 10.0 * i}])  # type: ignore[misc]
        assert not answer(client.request("PUT", "/mean/contexts/customer-7", json=[{"y": 4.0}]))["fitted"]
        assert versions == sorted(versions)
        assert sorted(each.name for each in (tmp_path / "store" / "fits" / "customer-7").iterdir()) == versions[-2:]


def test_a_context_that_is_deleted_is_gone(fixture: Fixture, tmp_path: Path) -> None:
    """From the store at once, and from the memory of workers at their next look."""
    with TestClient(*fixture.contexts.endpoints) as client:
        client.request("PUT", "/mean/contexts/a", json=HISTORY)
        assert predicted(client, "a").status == 200
        deleted = client.request("DELETE", "/mean/contexts/a", content=b"")
        assert (deleted.status, deleted.content) == (204, b"")
        assert client.request("DELETE", "/mean/contexts/a", content=b"").status == 404
        until(lambda: predicted(client, "a").status == 404)
        assert "fit it first" in predicted(client, "a").json()["detail"]
        assert not list((tmp_path / "store").glob("fits/*"))


def test_a_context_survives_its_processes(tmp_path: Path, cache_folder: None) -> None:
    """Another server on the same store predicts without fitting."""
    with TestClient(*Fixture(tmp_path / "store").contexts.endpoints) as client:
        context = answer(client.post("/mean/fit", json=HISTORY))["context_id"]
    other = Fixture(tmp_path / "store")
    with TestClient(*other.contexts.endpoints) as client:
        assert answer(predicted(client, context)) == [{"y": 2.0}, {"y": 20.0}]
        assert not answer(client.post("/mean/fit", json=HISTORY))["fitted"]
    assert other.fits == []


def test_a_fit_that_fails_stores_nothing(fixture: Fixture, tmp_path: Path) -> None:
    """Neither does a table that does not fit the schema, nor a parameter that does not."""
    with TestClient(*fixture.contexts.endpoints) as client:
        assert client.request("PUT", "/mean/contexts/a", json=[]).status == 500
        refused = client.request("PUT", "/mean/contexts/a", json=[{"y": "text"}])
        assert (refused.status, refused.json()["code"]) == (422, "misfit")
        assert client.request("PUT", "/mean/contexts/a?factor=x", json=HISTORY).status == 422
        assert predicted(client, "a").status == 404
    assert not list(tmp_path.glob("store/fits/*/*"))


def test_ids_never_leave_their_folder(fixture: Fixture, tmp_path: Path) -> None:
    """They are refused before anything is fitted."""
    with TestClient(*fixture.contexts.endpoints) as client:
        for context in ("..", ".hidden", "a/b", "a\0", "x" * 129, "a b", "é", "a\\b", "{version}"):
            for method, place, rows in (("PUT", "contexts", HISTORY), ("POST", "predict", [{"step": 1}]), ("DELETE", "contexts", [])):
                found = client.request(method, f"/mean/{place}/{quote(context, safe='')}", json=rows)
                assert found.status in {404, 422}, (method, context)
    assert fixture.fits == []
    assert not (tmp_path / "store").exists()


def test_digests_depend_on_all_that_counts() -> None:
    """On names, types, values, nulls and order; not on how the table lies in memory."""
    frame = pl.DataFrame({"a": [1.0, None, 3.0], "b": ["x", "y", "x"]})
    others = {"options": Options(factor=2)}
    given = digest_of(frame, others, "1")
    halves = pl.concat([frame[:1], frame[1:]], rechunk=False)
    nested = pl.DataFrame({"s": [{"c": [1, None]}, None]}), pl.DataFrame({"s": [{}, {}]}), pl.DataFrame({"s": [None, None]})
    assert len({digest_of(each, {}, "") for each in nested}) == 3
    for categories in (["x", "y"], ["y", "x"]):
        column = pl.Series("b", [*categories, "x"], pl.Categorical)[2:]
        assert digest_of(column.to_frame(), {}, "") == digest_of(pl.DataFrame({"b": ["x"]}, {"b": pl.Categorical}), {}, "")
    assert digest_of(halves, others, "1") == digest_of(pl.concat([frame, frame])[:3], others, "1") == given
    changed = [
        (frame.rename({"a": "c"}), others, "1"),
        (frame.with_columns(pl.col("a").fill_null(math.nan)), others, "1"),
        (frame.with_columns(pl.col("a").fill_null(0.0)), others, "1"),
        (frame.with_columns(pl.col("a").cast(pl.Float32)), others, "1"),
        (frame.reverse(), others, "1"),
        (frame.select("b", "a"), others, "1"),
        (frame, {"options": Options(factor=3)}, "1"),
        (frame, others, "2"),
    ]
    assert len({given, *(digest_of(*each) for each in changed)}) == 1 + len(changed)


def test_handlers_stay_plain_functions(fixture: Fixture) -> None:
    """A unit test needs no server."""
    model = fixture.fit(pl.DataFrame({"y": [1.0, 3.0]}), Options())
    assert fixture.predict(model, pl.DataFrame({"step": [2]}))["y"].to_list() == [4.0]


def test_declarations_that_cannot_work_say_what_to_change(tmp_path: Path) -> None:
    """At the declaration, not at the first request."""
    store = afs.FsClient(tmp_path, "{context_id}/{version}")

    def declare(path: str = "/m", client: Any = store, **settings: Any) -> svc.Contexts:
        return svc.Contexts(path, client, save_model=save, load_model=load, **settings)

    for wrong, text in (
        (lambda: declare(client=afs.FsClient(tmp_path, "{context_id}")), "needs one path template with {context_id} and {version}"),
        (lambda: declare(client=afs.MlflowClient("models:/a/1")), "MlflowClient cannot store contexts"),
        (lambda: declare("/m/{country}"), "the same parameters, unlike ['country']"),
        (lambda: declare(keep_versions=0), "keep_versions is 0"),
        (lambda: declare(cache={"max_bytes": 0}), "max_bytes"),
    ):
        with pytest.raises(Declaration) as caught:
            wrong()
        assert text in str(caught.value)
    contexts = declare()

    @contexts.fit()
    def fit(records_df: pl.DataFrame) -> int:
        return 1

    with pytest.raises(Declaration, match="declare fit and predict once each"):
        contexts.fit()(fit)
    with pytest.raises(Declaration, match="must be a plain function"):
        declare().fit()(_generator)


def _generator(records_df: pl.DataFrame) -> Any:
    yield records_df


def test_contexts_of_a_path_with_parameters(tmp_path: Path, cache_folder: None) -> None:
    """The same id is another context under another parameter, and the handlers may ask for the parameter."""
    contexts = svc.Contexts(
        "/sales/{country}", afs.FsClient(tmp_path / "store", "{country}/{context_id}/{version}"), save_model=save, load_model=load
    )
    countries = []

    @contexts.fit()
    def fit(records_df: History.DataFrame, country: str) -> float:
        countries.append(country)
        return float(records_df["y"].sum())

    @contexts.predict()
    def predict(model: float, records_df: Steps.DataFrame, country: str, context_id: str) -> pl.DataFrame:
        return records_df.select(of=pl.lit(f"{country} {context_id} {model}"))

    with TestClient(*contexts.endpoints) as client:
        assert answer(client.request("PUT", "/sales/fr/contexts/a", json=[{"y": 1.0}]))["fitted"]
        assert answer(client.request("PUT", "/sales/de/contexts/a", json=[{"y": 2.0}]))["fitted"]
        assert answer(client.post("/sales/de/predict/a", json=[{"step": 1}])) == [{"of": "de a 2.0"}]
        assert answer(client.post("/sales/fr/predict/a", json=[{"step": 1}])) == [{"of": "fr a 1.0"}]
        assert client.post("/sales/it/predict/a", json=[{"step": 1}]).status == 404
    assert countries == ["fr", "de"]


def test_a_version_that_is_deleted_while_it_is_loaded_is_to_be_asked_for_again(tmp_path: Path, cache_folder: None) -> None:
    """It is no fault of the model; a `load_model` that misses another file is."""
    contexts = svc.Contexts("/m", afs.FsClient(tmp_path, "{context_id}/{version}"), save_model=save, load_model=_removing)

    @contexts.fit()
    def fit(records_df: History.DataFrame) -> float:
        return 1.0

    @contexts.predict()
    def predict(model: float, records_df: Steps.DataFrame) -> Forecast.DataFrame:
        return records_df.select(y=pl.lit(model))

    with TestClient(*contexts.endpoints) as client:
        client.request("PUT", "/m/contexts/a", json=HISTORY)
        found = client.post("/m/predict/a", json=[{"step": 1}])
        assert (found.status, found.json()["code"]) == (503, "unavailable")
        client.request("PUT", "/m/contexts/keep", json=HISTORY)
        assert client.post("/m/predict/keep", json=[{"step": 1}]).json()["code"] == "load_failed"


def _removing(path: str) -> float:
    if "keep" not in path:
        Path(path).unlink()
    return load(path + ("/none" if "keep" in path else ""))


def test_fitted_objects_in_memory_are_limited_by_their_bytes(tmp_path: Path, cache_folder: None) -> None:
    """The least recently used one leaves; it stays in the store, and comes back when it is asked for."""
    fixture = Fixture(tmp_path / "store", cache={"max_bytes": 7}, refresh=timedelta(hours=1))  # two of three bytes each
    server = svc.Server(port=0)
    for each in fixture.contexts.endpoints:
        server.register(each)

    def loaded() -> set[str]:
        return {entry.parameters["context_id"] for each in server.entries() for entry in each.entries}

    with server.serving() as address, httpx.Client(base_url=address) as client:
        for name in "abc":
            client.put(f"/mean/contexts/{name}", json=HISTORY)
            assert client.post(f"/mean/predict/{name}", json=[{"step": 1}]).json()["predictions"] == [{"y": 2.0}]
        assert loaded() == {"b", "c"}
        assert client.post("/mean/predict/a", json=[{"step": 1}]).json()["predictions"] == [{"y": 2.0}]
        assert loaded() == {"a", "c"}
    assert len(fixture.fits) == 3


def test_a_context_that_gets_too_old_leaves_the_memory_of_workers(tmp_path: Path, cache_folder: None) -> None:
    """At the next look, and is fitted again when it is asked for."""
    fixture = Fixture(tmp_path / "store", max_age=timedelta(seconds=3))
    with TestClient(*fixture.contexts.endpoints) as client:
        assert answer(client.request("PUT", "/mean/contexts/a", json=HISTORY))["fitted"]
        until(lambda: predicted(client, "a").status == 404)
        assert answer(client.request("PUT", "/mean/contexts/a", json=HISTORY))["fitted"]
        assert predicted(client, "a").status == 200
    assert len(fixture.fits) == 2


def test_a_fit_that_notices_its_cancellation_stores_nothing(tmp_path: Path, cache_folder: None) -> None:
    """What it returns then may be half of a model."""
    contexts = svc.Contexts("/m", afs.FsClient(tmp_path / "store", "{context_id}/{version}"), save_model=save, load_model=load)
    ended = threading.Event()

    @contexts.fit()
    def fit(records_df: History.DataFrame, context: svc.Context) -> float:
        while not context.cancelled():
            time.sleep(0.01)
        ended.set()
        return 0.5

    with TestClient(*contexts.endpoints) as client:
        assert client.request("PUT", "/m/contexts/a", json=HISTORY, headers={"x-request-timeout-ms": "300"}).status == 504
        assert ended.wait(30)
    assert not [*tmp_path.glob("store/*/*")]


def test_long_values_of_the_path_are_refused_before_the_fit(tmp_path: Path, cache_folder: None) -> None:
    """A file system takes only 255 bytes as a name; letters may have several."""
    contexts = svc.Contexts("/m/{country}", afs.FsClient(tmp_path, "{country}/{context_id}/{version}"), save_model=save, load_model=load)
    fits = []

    @contexts.fit()
    def fit(records_df: History.DataFrame) -> float:
        fits.append(1)
        return 1.0

    with TestClient(*contexts.endpoints) as client:
        for length, status in ((100, 200), (101, 422)):
            assert client.request("PUT", f"/m/{quote('é' * length)}/contexts/a", json=HISTORY).status == status
        assert client.request("DELETE", f"/m/{quote('é' * 101)}/contexts/a", content=b"").status == 422
    assert fits == [1]
