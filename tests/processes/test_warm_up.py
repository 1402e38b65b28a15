"""The warm-up that a release must pass before it takes requests, on real workers under a real supervisor."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from supervisor_harness import Supervised
from tinypex import times, write_tiny

ROW = """
    import os, signal, sys, time
    import polars as pl
    import base.service as svc
    from base.errors import Reject
    from base.schema import Schema
    from pydantic import Field

    class Row(Schema):
        x: pl.Int64 = FIELD

    @svc.endpoint(path="/tiny"OPTIONS)
    def predict(records_df: Row.DataFrame):
        print("asked for", records_df["x"].to_list(), flush=True)
        BODY
        return records_df["x"] * 5
"""


def module(body: str = "pass", field: str = "Field()", options: str = "") -> str:
    return ROW.replace("BODY", body).replace("FIELD", field).replace("OPTIONS", options)


@pytest.fixture
def supervised(tmp_path: Path) -> Supervised:
    made = Supervised(tmp_path, restart_delay_min_s=0.05)
    write_tiny(made.dist / "tiny-0.1.0.pex", "tiny")
    return made


@pytest.mark.parametrize(
    ("new", "state", "reason"),
    [
        (module("os.kill(os.getpid(), signal.SIGSEGV)"), "restarting", "was killed by SIGSEGV before it was ready"),
        (module("os._exit(7)"), "restarting", "exited with code 7 before it was ready"),
        (module("raise RuntimeError('no')", "Field(examples=[7])"), "failed", "the handler predict failed"),
        (module("raise Reject(422, 'no sevens')", "Field(examples=[7])"), "failed", "no sevens"),
        (module("return [1, 2, 3]", "Field(examples=[7])"), "failed", "returned 3"),
    ],
    ids=["a signal", "an exit", "an error", "a refusal", "too many rows"],
)
def test_a_release_that_fails_its_warm_up_never_takes_a_request(supervised: Supervised, new: str, state: str, reason: str) -> None:
    """The previous one keeps serving, and the reason is shown with the release."""
    with supervised:
        write_tiny(supervised.dist / "tiny-0.2.0.pex", "tiny", "0.2.0", new)
        found = supervised.until_state("tiny-0.2.0.pex", state)
        assert reason in found["reason"], found
        assert supervised.predictions("/tiny") == [6]
        assert supervised.release("tiny-0.1.0.pex")["state"] == "ready"


def test_a_hanging_warm_up_is_ended_by_the_start_timeout(supervised: Supervised) -> None:
    """It is retried, like every start that takes too long."""
    supervised.settings["start_timeout_s"] = 5
    with supervised:
        write_tiny(supervised.dist / "tiny-0.2.0.pex", "tiny", "0.2.0", module("time.sleep(60)"))
        found = supervised.until_state("tiny-0.2.0.pex", "restarting")
        assert "not ready within 5 s" in found["reason"]
        assert supervised.predictions("/tiny") == [6]


def test_a_generated_row_may_be_refused(supervised: Supervised) -> None:
    """The author never said that it is valid, so this is a warning, and the release serves."""
    with supervised:
        write_tiny(
            supervised.dist / "tiny-0.2.0.pex", "tiny", "0.2.0", module("if records_df['x'][0] != 3: raise Reject(422, 'only threes')")
        )
        supervised.until(lambda: supervised.predictions("/tiny") == [15])
        (warning,) = supervised.release("tiny-0.2.0.pex")["warnings"]
        assert warning.startswith("endpoint predict failed on a row that was made up from its schema: only threes")


def test_a_handler_is_warmed_up_once_before_its_first_request(supervised: Supervised) -> None:
    """The author's example is used; an author may also disable the warm-up."""
    path = supervised.dist / "tiny-0.2.0.pex"
    with supervised:
        write_tiny(path, "tiny", "0.2.0", module(field="Field(examples=[7])"))
        supervised.until_state("tiny-0.2.0.pex", "ready")
        supervised.until(lambda: "asked for" in supervised.err.read_text())
        assert supervised.err.read_text().count("asked for") == supervised.err.read_text().count("asked for [7]") == 1
        write_tiny(path, "tiny", "0.2.0", module(options=", warm_up=False"))
        supervised.until(lambda: sum(each["state"] == "ready" for each in supervised.releases("tiny-0.2.0.pex")) == 1)
        supervised.until(lambda: len(supervised.releases("tiny-0.2.0.pex")) == 2)
        skipped = "endpoint predict: its handler was not called, since it has warm_up=False"
        supervised.until(lambda: skipped in supervised.err.read_text())
        assert supervised.err.read_text().count("asked for") == 1
        assert supervised.predictions("/tiny") == [15]


LOADS = """
    import polars as pl
    import base.service as svc
    import base.artifacts as afs
    from base.schema import Schema
    from pathlib import Path

    class Row(Schema):
        x: pl.Int64

    def load(path):
        return int(Path(path).read_text())

    config = afs.CacheConfig(client=afs.FsClient("BASE", "/{key}.txt"), load_model=load)

    @svc.endpoint(path="/tiny/{key}", cache_config=config)
    def predict(model, records_df: Row.DataFrame):
        return records_df["x"] * model
"""


def loads(folder: Path) -> str:
    return LOADS.replace("BASE", str(folder))


def test_a_release_whose_models_are_all_broken_is_not_ready_until_one_is_repaired(supervised: Supervised, tmp_path: Path) -> None:
    """It is retried, since a store may be down, and the previous release serves meanwhile."""
    artifacts = tmp_path / "artifacts"
    artifacts.mkdir()
    (artifacts / "a.txt").write_text("broken")
    (artifacts / "b.txt").write_text("broken, too")
    write_tiny(supervised.dist / "tiny-0.1.0.pex", "tiny", module=times(2, "/tiny/{key}"))
    with supervised:
        write_tiny(supervised.dist / "tiny-0.2.0.pex", "tiny", "0.2.0", loads(artifacts))
        found = supervised.until(lambda: next((each for each in supervised.releases("tiny-0.2.0.pex") if each["restarts"]), None))
        assert "invalid literal" in "\n".join(found["log"])
        assert supervised.predictions("/tiny/a") == [6]
        (artifacts / "a.txt").write_text("7")
        supervised.until(lambda: supervised.predictions("/tiny/a") == [21])


def test_a_release_without_any_artifact_is_ready_and_serves_the_first_that_arrives(supervised: Supervised, tmp_path: Path) -> None:
    """Nothing can be warmed up."""
    artifacts = tmp_path / "artifacts"
    artifacts.mkdir()
    write_tiny(supervised.dist / "tiny-0.2.0.pex", "tiny", "0.2.0", loads(artifacts))
    with supervised:
        assert supervised.predictions("/tiny/a") == [404]
        (artifacts / "a.txt").write_text("7")
        supervised.until(lambda: supervised.predictions("/tiny/a") == [21])
        assert supervised.release("tiny-0.2.0.pex")["warnings"] == []


def test_a_restarted_worker_does_not_wait_for_the_store(supervised: Supervised, tmp_path: Path) -> None:
    """Its release has passed its warm-up before, and other models of it may be available."""
    artifacts = tmp_path / "artifacts"
    artifacts.mkdir()
    (artifacts / "a.txt").write_text("7")
    write_tiny(supervised.dist / "tiny-0.2.0.pex", "tiny", "0.2.0", loads(artifacts))
    with supervised:
        assert supervised.predictions("/tiny/a") == [21]
        (artifacts / "a.txt").write_text("broken")
        os.kill(supervised.release("tiny-0.2.0.pex")["worker_pids"][0], signal.SIGKILL)
        supervised.until(lambda: supervised.release("tiny-0.2.0.pex")["restarts"] == 1)
        supervised.until_state("tiny-0.2.0.pex", "ready")
        (artifacts / "b.txt").write_text("9")
        supervised.until(lambda: supervised.predictions("/tiny/b") == [27])
