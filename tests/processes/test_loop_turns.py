"""No release, request or operator keeps an event loop from other work for long, whatever its size.

The supervisor of a test fails it if a turn of an event loop took 100 ms or longer (`Supervised.check_turns`).
"""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import msgspec

from operated_supervisor import Operated
from tinypex import times, write_tiny

WIDE = """
    import polars as pl
    import base.service as svc
    from base.schema import Schema

    Row = type(Schema)("Row", (Schema,), {{"__module__": __name__, "__annotations__": {{f"c{{i}}": pl.Float64 for i in range({columns})}}}})

    @svc.endpoint(path="/wide")
    def predict(records_df: Row.DataFrame) -> Row.DataFrame:
        return records_df
"""

ANY = """
    import polars as pl
    import base.service as svc

    @svc.endpoint(path="/any")
    def predict(records_df: pl.DataFrame):
        return records_df
"""

COLUMNS = 4000


def ask_any(client: httpx.Client, address: str) -> None:
    """Posts what is large, and what looks small, to an endpoint without a schema."""
    fresh = [{f"{prefix}{number}": number for number in range(1000)} for prefix in "abcd"]
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda given: client.post(f"{address}/any", json=[given]), fresh))
    assert [answer.json()["predictions"] for answer in answers] == [[given] for given in fresh]
    refused = client.post(f"{address}/any", json=[{f"x{number}": number for number in range(1001)}])
    assert (refused.status_code, refused.json()["code"]) == (413, "too_large")
    refused = client.post(f"{address}/any", json=[{"a": {f"x{number}": number}} for number in range(6000)])
    assert (refused.status_code, refused.json()["code"]) == (413, "too_large")
    sparse = [{"a": {f"x{number}": number for number in range(500)}}] + [{"a": {}}] * 1000
    answer = client.post(f"{address}/any", json=sparse).json()["predictions"]
    assert answer == [sparse[0]] + [{"a": dict.fromkeys(sparse[0]["a"])}] * 1000
    blank = client.post(f"{address}/any", content=b"\n" * 30_000_000 + b'{"a":1}', headers={"content-type": "application/x-ndjson"})
    assert blank.json()["predictions"] == [{"a": 1}]

    lists = [{"a": list(range(20_000))} for _ in range(100)]
    assert client.post(f"{address}/any", content=msgspec.json.encode(lists)).json()["predictions"] == lists
    refused = client.post(f"{address}/any", content=msgspec.json.encode([{"a": list(range(1_000_000))}]))
    assert (refused.status_code, "raise row_max_values" in refused.json()["detail"]) == (413, True)
    quoted = client.post(f"{address}/any", content=b"a\n" + b'"x"\n' * 500_000, headers={"content-type": "text/csv"})
    assert quoted.json()["predictions"] == [{"a": "x"}] * 500_000


def test_what_is_large_keeps_no_loop_from_other_requests(tmp_path: Path) -> None:
    """A release of thousands of columns, a front door that starts while it serves, its document, requests to it, fresh column names, and
    megabytes of JSON. Another model answers all the time.
    """
    write_tiny(tmp_path / "dist" / "tiny.pex", "tiny", module=times(2, "/tiny"))
    write_tiny(tmp_path / "dist" / "any.pex", "any", module=ANY)
    with Operated(tmp_path, body_max_bytes="64MiB", start_timeout_s=300) as supervisor, httpx.Client(timeout=120) as client:
        supervisor.until(lambda: supervisor.predictions("/tiny") == [6])
        address = supervisor.state()["address"]
        write_tiny(supervisor.dist / "wide.pex", "wide", module=WIDE.format(columns=COLUMNS))
        supervisor.until(lambda: supervisor.release("wide.pex")["state"] == "ready", 300)
        row = {f"c{number}": float(number) for number in range(COLUMNS)}

        def ask_wide() -> httpx.Response:
            return client.post(f"{address}/wide", json=[row, row])

        supervisor.until(lambda: ask_wide().status_code == 200)
        assert ask_wide().json()["predictions"] == [row, row]
        misfit = client.post(f"{address}/wide", json=[dict.fromkeys(row, "x")])
        assert misfit.status_code == 422
        document = client.get(f"{address}/openapi.json").json()
        assert len(document["components"]["schemas"]["wide.predict"]["properties"]) == COLUMNS

        ask_any(client, address)

        rows = [{"x": number, "s": "},{", "l": [{"y": number}]} for number in range(300_000)]
        assert client.post(f"{address}/any", content=msgspec.json.encode(rows)).json()["predictions"] == rows
        values = [{"x": number} for number in range(1_000_000)]
        assert client.post(f"{address}/tiny", content=msgspec.json.encode(values)).json()["predictions"] == list(range(0, 2_000_000, 2))
        assert client.post(f"{address}/tiny", content=b"[" + b'{"x":1},' * 1_000_000).status_code == 400

        assert supervisor.run("models").returncode == 0
        (pid,) = supervisor.state()["front_door_pids"]
        os.kill(pid, signal.SIGKILL)
        supervisor.until(lambda: supervisor.state()["front_door_pids"] not in ([pid], [None], [0], []))
        assert client.post(f"{address}/wide", json=[row]).json()["predictions"] == [row]
