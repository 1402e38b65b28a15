"""Fitted contexts: fit once, predict from anywhere, over a real front door and several processes."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl
import pytest

import base.artifacts as afs
import base.service as svc
from base.contexts.digest import digest_of
from base.contexts.store import ContextStore, ContextVersion
from base.errors import Declaration, Misfit, NotFound
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


FITS = """
import sys, time
from pathlib import Path
import polars as pl
sys.path.insert(0, sys.argv[1])
from base.artifacts import FsClient
from base.contexts.store import ContextStore
store, parameters = ContextStore(FsClient(sys.argv[2], "fits/{context_id}/{version}"), None), {"context_id": "shared"}
with store.locked(parameters):
    if store.newest(parameters) is None:
        with open(sys.argv[3], "a") as log:
            log.write("fitted\\n")
        time.sleep(0.2)
        store.save(parameters, "a" * 32, lambda path: path.write_text("2.0"), 2)
"""


def test_several_processes_fit_one_context_once(tmp_path: Path, cache_folder: None) -> None:
    """As the workers of a release do."""
    root = Path(__file__).resolve().parents[3]
    arguments = [sys.executable, "-c", FITS, str(root), str(tmp_path / "store"), str(tmp_path / "log")]
    processes = [subprocess.Popen(arguments) for _ in range(6)]
    assert [each.wait() for each in processes] == [0] * 6
    assert (tmp_path / "log").read_text() == "fitted\n"
    assert not list((tmp_path / "cache" / "contexts").iterdir())


def test_a_lock_of_a_process_that_was_killed_is_free(tmp_path: Path, cache_folder: None) -> None:
    """A fit that dies with its worker leaves nothing that others wait for."""
    code = FITS.replace("time.sleep(0.2)", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    root = Path(__file__).resolve().parents[3]
    arguments = [str(root), str(tmp_path / "store"), str(tmp_path / "log")]
    assert subprocess.run([sys.executable, "-c", code, *arguments], check=False).returncode < 0
    assert subprocess.run([sys.executable, "-c", FITS, *arguments], check=True).returncode == 0
    assert (tmp_path / "log").read_text() == "fitted\n" * 2


def test_a_client_may_name_its_context_and_fit_it_again(fixture: Fixture, tmp_path: Path) -> None:
    """The newest version counts, once the worker has looked; the store keeps two versions."""
    with TestClient(*fixture.contexts.endpoints) as client:
        versions = []
        for i in range(1, 5):
            reply = answer(client.post("/mean/fit/customer-7", json=[{"y": float(i)}]))
            assert (reply["context_id"], reply["fitted"]) == ("customer-7", True)
            versions.append(reply["version"])
            until(lambda i=i: answer(predicted(client, "customer-7")) == [{"y": float(i)}, {"y": 10.0 * i}])  # type: ignore[misc]
        assert not answer(client.post("/mean/fit/customer-7", json=[{"y": 4.0}]))["fitted"]
        assert versions == sorted(versions)
        assert sorted(each.name for each in (tmp_path / "store" / "fits" / "customer-7").iterdir()) == versions[-2:]


def test_a_context_that_is_deleted_is_gone(fixture: Fixture, tmp_path: Path) -> None:
    """From the store at once, and from the memory of workers at their next look."""
    with TestClient(*fixture.contexts.endpoints) as client:
        client.post("/mean/fit/a", json=HISTORY)
        assert predicted(client, "a").status == 200
        assert answer(client.post("/mean/delete/a", json=[])) == {"context_id": "a", "deleted": True}
        assert client.post("/mean/delete/a", json=[]).status == 404
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
        assert client.post("/mean/fit/a", json=[]).status == 500
        refused = client.post("/mean/fit/a", json=[{"y": "text"}])
        assert (refused.status, refused.json()["code"]) == (422, "misfit")
        assert client.post("/mean/fit/a?factor=x", json=HISTORY).status == 422
        assert predicted(client, "a").status == 404
    assert not list(tmp_path.glob("store/fits/*/*"))


def test_ids_never_leave_their_folder(fixture: Fixture, tmp_path: Path) -> None:
    """They are refused before anything is fitted."""
    with TestClient(*fixture.contexts.endpoints) as client:
        for context in ("..", ".hidden", "a/b", "a\0", "x" * 129, "a b", "é", "a\\b", "{version}"):
            for action, rows in (("fit", HISTORY), ("predict", [{"step": 1}]), ("delete", [])):
                assert client.post(f"/mean/{action}/{quote(context, safe='')}", json=rows).status in {404, 422}, (action, context)
    assert fixture.fits == []
    assert not (tmp_path / "store").exists()


def test_old_contexts_are_not_used_and_are_fitted_again(tmp_path: Path, cache_folder: None) -> None:
    """By the time of their fit, which their name has."""
    now_s = 1_000_000.0
    store = ContextStore(afs.FsClient(tmp_path, "{context_id}/{version}"), 60.0, lambda: now_s)
    version, size_bytes = store.save({"context_id": "a"}, "0" * 32, lambda path: path.write_text("1.5"), 2)
    assert (size_bytes, store.newest({"context_id": "a"})) == (3, version)
    assert store.list() == [{"context_id": "a"}]
    now_s += 61
    assert store.newest({"context_id": "a"}) is None
    assert store.list() == []
    with pytest.raises(NotFound, match="fit it first"):
        store.locate({"context_id": "a"})


def test_versions_keep_their_order_whatever_the_clock_does(tmp_path: Path) -> None:
    """A version that is stored later is newer, even if the clock was set back; and files of others are no versions."""
    now_s = 2_000_000.0
    store = ContextStore(afs.FsClient(tmp_path, "{context_id}/{version}"), None, lambda: now_s)
    first, _ = store.save({"context_id": "a"}, "1" * 32, lambda path: path.write_text("1"), 5)
    now_s -= 3600
    second, _ = store.save({"context_id": "a"}, "0" * 32, lambda path: path.write_text("2"), 5)
    (tmp_path / "a" / ".9999999999999-unfinished").write_text("3")
    (tmp_path / "a" / "notes.txt").write_text("4")
    assert first < second == store.newest({"context_id": "a"})
    assert store.locate({"context_id": "a"}).location.read_text() == "2"
    assert ContextVersion.parse("notes.txt") is None
    with pytest.raises(Misfit):
        store.newest({"context_id": "../a"})


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
        assert answer(client.post("/sales/fr/fit/a", json=[{"y": 1.0}]))["fitted"]
        assert answer(client.post("/sales/de/fit/a", json=[{"y": 2.0}]))["fitted"]
        assert answer(client.post("/sales/de/predict/a", json=[{"step": 1}])) == [{"of": "de a 2.0"}]
        assert answer(client.post("/sales/fr/predict/a", json=[{"step": 1}])) == [{"of": "fr a 1.0"}]
        assert client.post("/sales/it/predict/a", json=[{"step": 1}]).status == 404
    assert countries == ["fr", "de"]
