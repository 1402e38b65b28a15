"""The warm-up that a release must pass before it takes requests, on real workers under a real supervisor."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from operated_supervisor import Operated
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


MIXES = "endpoint predict: its answer for a row depends on the rows beside it, which may be other clients' rows: for {'x': "


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
        (module("return records_df['x'] - records_df['x'].mean()", "Field(examples=[7, 9])"), "failed", MIXES),
        (module("return records_df['x'] - records_df['x'].mean()"), "failed", "Add batched=False to @endpoint"),
    ],
    ids=["a signal", "an exit", "an error", "a refusal", "too many rows", "rows of others in examples", "rows of others in made-up rows"],
)
def test_a_release_that_fails_its_warm_up_never_takes_a_request(supervised: Supervised, new: str, state: str, reason: str) -> None:
    """The previous one keeps serving, and the reason is shown with the release."""
    with supervised:
        write_tiny(supervised.dist / "tiny-0.2.0.pex", "tiny", "0.2.0", new)
        found = supervised.until_state("tiny-0.2.0.pex", state)
        assert reason in found["reason"], found
        supervised.until(lambda: supervised.predictions("/tiny") == [6])  # it may still be starting, too
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


def test_a_handler_is_warmed_up_before_its_first_request(supervised: Supervised) -> None:
    """The author's example is used, first of all; an author may also disable the warm-up."""
    path = supervised.dist / "tiny-0.2.0.pex"
    with supervised:
        write_tiny(path, "tiny", "0.2.0", module(field="Field(examples=[7])"))
        supervised.until_state("tiny-0.2.0.pex", "ready")
        supervised.until(lambda: "is warm after" in supervised.err.read_text())
        asked = re.findall(r"asked for (\[.*\])", supervised.err.read_text())
        assert asked[:2] == ["[7]", "[7]"]
        write_tiny(path, "tiny", "0.2.0", module(options=", warm_up=False"))
        supervised.until(lambda: sum(each["state"] == "ready" for each in supervised.releases("tiny-0.2.0.pex")) == 1)
        supervised.until(lambda: len(supervised.releases("tiny-0.2.0.pex")) == 2)
        skipped = "endpoint predict: its handler was not called, since it has warm_up=False"
        supervised.until(lambda: skipped in supervised.err.read_text())
        assert len(re.findall(r"asked for (\[.*\])", supervised.err.read_text())) == len(asked)
        assert supervised.predictions("/tiny") == [15]


def test_a_release_that_mixes_rows_serves_if_its_author_or_an_operator_means_it(tmp_path: Path) -> None:
    """`pexdock models` shows why a release is refused. With `batch_check=warn` the next start serves it with a warning."""
    mixing = "return records_df['x'] - records_df['x'].mean()"
    operated = Operated(tmp_path, restart_delay_min_s=0.05)
    write_tiny(operated.dist / "tiny-0.1.0.pex", "tiny", "0.1.0", module(mixing, "Field(examples=[3, 5])"))
    write_tiny(operated.dist / "whole-0.1.0.pex", "whole", "0.1.0", module(mixing, options=", batched=False").replace("/tiny", "/whole"))
    write_tiny(
        operated.dist / "meant-0.1.0.pex", "meant", "0.1.0", module(mixing, options=", batch_check=False").replace("/tiny", "/meant")
    )
    with operated:
        operated.until_state("tiny-0.1.0.pex", "failed")
        assert MIXES in operated.run("models").stdout
        refused, passed = (operated.run("check", "--run", operated.dist / f"{name}-0.1.0.pex") for name in ("tiny", "whole"))
        assert (refused.returncode, MIXES in refused.stderr) == (1, True), refused
        assert (passed.returncode, "ready after" in passed.stdout) == (0, True), passed
        assert operated.predictions("/whole") == operated.predictions("/meant") == [0]
    operated.settings["batch_check"] = "warn"
    with operated:
        operated.until_state("tiny-0.1.0.pex", "ready")
        (warning,) = operated.release("tiny-0.1.0.pex")["warnings"]
        assert warning.startswith(MIXES)
        assert operated.predictions("/tiny") == [0]


def test_a_handler_that_crashes_on_made_up_rows_serves_unchecked(supervised: Supervised) -> None:
    """No client may ever send such rows. The log says that it was not checked."""
    with supervised:
        crashes = "if records_df['x'].to_list() not in ([7], [3]): os._exit(9)"
        write_tiny(supervised.dist / "tiny-0.2.0.pex", "tiny", "0.2.0", module(crashes, "Field(examples=[7])"))
        supervised.until(lambda: supervised.predictions("/tiny") == [15])
        assert "further starts do not check whether its answer for a row depends on other rows" in supervised.err.read_text()


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
