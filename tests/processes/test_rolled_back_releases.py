"""A release that fails its probation: when it is rolled back, and what is said and done about it afterwards, with a real supervisor."""

from __future__ import annotations

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from operated_supervisor import Operated
from tinypex import times, write_tiny

FAILS = """
    import polars as pl
    import base.service as svc
    from base.schema import Schema

    class Row(Schema):
        x: pl.Int64

    @svc.endpoint(path="/tiny")
    def predict(records_df: Row.DataFrame):
        if (records_df["x"] == 7).any():
            raise RuntimeError("no sevens")
        return records_df["x"] * 20
"""

SEVEN = [{"x": 7}]
REQUESTS_MIN = 20


def dropped(folder: Path, **settings: object) -> Operated:
    made = Operated(folder, rollback_window_s=600, probation_s=600, probation_requests_min=REQUESTS_MIN, **settings)
    write_tiny(made.dist / "tiny-0.1.0.pex", "tiny", "0.1.0", times(10, "/tiny"))
    return made


def drop_failing(operated: Operated) -> None:
    write_tiny(operated.dist / "tiny-0.2.0.pex", "tiny", "0.2.0", FAILS)
    operated.until(lambda: operated.predictions("/tiny") == [60])


def fail_until_rolled_back(operated: Operated, connections: int) -> Counter[int]:
    """Sends failing requests one after the other on each connection until the previous release answers them. Returns their statuses."""
    url = operated.state()["address"] + "/tiny"

    def ask(_: int) -> Counter[int]:
        statuses: Counter[int] = Counter()
        with httpx.Client(timeout=20) as client:
            while not statuses[200] and statuses.total() < 3000:
                statuses[client.post(url, json=SEVEN).status_code] += 1
        return statuses

    with ThreadPoolExecutor(connections) as threads:
        return sum(threads.map(ask, range(connections)), Counter())


@pytest.mark.parametrize("front_doors", [1, 2])
def test_no_more_requests_fail_than_the_limit_says_however_fast_they_come(tmp_path: Path, front_doors: int) -> None:
    """Not one more, although many are in flight at once. Each front door stops at its share, and the previous release answers."""
    with dropped(tmp_path, front_doors=front_doors) as operated:
        drop_failing(operated)
        statuses = fail_until_rolled_back(operated, 32)
        assert set(statuses) == {200, 500}
        assert REQUESTS_MIN // front_doors - 1 <= statuses[500] <= REQUESTS_MIN, statuses
        rolled_back = operated.until(lambda: operated.state()["models"][0]["taken_back"])
        found = re.match(r"(\d+) of its first (\d+) requests failed; the limit is 50 %", rolled_back[0]["reason"])
        assert found is not None, rolled_back
        assert REQUESTS_MIN // front_doors - 1 <= int(found[1]) <= statuses[500]


def test_what_is_said_about_a_release_that_was_rolled_back_is_what_is_done(tmp_path: Path) -> None:
    """It is the newest one, gets mirrored requests on demand, and serves again only once it is promoted."""
    with dropped(tmp_path) as operated:
        drop_failing(operated)
        statuses = fail_until_rolled_back(operated, 1)
        assert statuses[500] == REQUESTS_MIN - 1, statuses  # one request was answered before
        stopped = operated.until_state("tiny-0.2.0.pex", "standby")
        assert "it was rolled back and does not serve until it is promoted: " in stopped["reason"]
        assert "of its first" in stopped["reason"]
        assert "a newer release" not in operated.run("models").stdout

        for order in (["pin", "tiny", "0.2.0"], ["split", "tiny", "0.1.0=1", "0.2.0=1"], ["label", "tiny", "canary", "0.2.0"]):
            refused = operated.run(*order)
            assert refused.returncode == 1, order
            assert "tiny 0.2.0 was rolled back: " in refused.stderr, order
            assert "promote it to let it serve again" in refused.stderr, order
        assert operated.predictions("/tiny") == [30]

        shadow = operated.run("shadow", "tiny", "0.2.0")
        assert shadow.returncode == 0
        assert "waits: 0.2.0 is " in shadow.stderr
        operated.until_state("tiny-0.2.0.pex", "ready")
        assert [operated.predictions("/tiny") for _ in range(5)] == [[30]] * 5
        counts = operated.until(lambda: operated.state()["models"][0]["comparison"])
        operated.until(lambda: operated.state()["models"][0]["comparison"]["requests"] == 5)
        assert counts["skipped"] == 0
        assert operated.state()["models"][0]["remarks"] == []
        assert operated.run("shadow", "tiny", "--off").returncode == 0
        operated.until_state("tiny-0.2.0.pex", "standby")

        assert operated.run("promote", "tiny", "0.2.0").returncode == 0
        assert operated.predictions("/tiny") == [60]
        assert operated.release("tiny-0.1.0.pex")["state"] in {"kept", "ready"}
