"""The tutorial's commands do what it says: its generator, its requests, its job and its files, with few shops instead of 10 000."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import markdown_guide
from supervisor_harness import Supervised
from tinypex import ROOT, write_tiny

pytestmark = pytest.mark.processes

TEXT = (ROOT / "docs" / "tutorials" / "forecast.md").read_text()
SHOPS = 6
BY_HAND = ("alias poetry", "poetry -C", "pexdock build model", "./entrypoint.sh", "pip install", "plot.py")
"""Commands that set up environments, build or start: the tests in tests/pex build models, and here a supervisor is started."""


class Checkout(NamedTuple):
    """A folder like the clone in which the reader is, with a supervisor that serves its dist/."""

    folder: Path
    supervised: Supervised

    def run(self, commands: str) -> str:
        """Runs commands of the page, as they are but for the address, and returns their output."""
        address = self.supervised.state()["address"]
        words = ["bash", "-euo", "pipefail", "-c", commands.replace("http://127.0.0.1:8080", address)]
        done = subprocess.run(words, cwd=self.folder, env=self.supervised.environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    folder = tmp_path_factory.mktemp("clone")
    (folder / ".venv").symlink_to(ROOT / ".venv")
    made = Supervised(folder, workers_per_release=2, job_workers=2, job_worker_nice=0, request_timeout_s=1800)
    made.turns_checked = False  # the imports of statsmodels take long
    model, generator = (block for _, block in markdown_guide.blocks(TEXT, "python"))
    project = folder / "models" / "sales"
    (project / "sales").mkdir(parents=True)
    (project / "sales" / "endpoints.py").write_text(model)
    (project / "generate.py").write_text(generator.replace("10_000", str(SHOPS)))
    module = f"import sys\nsys.path.insert(0, {str(project)!r})\nfrom sales.endpoints import forecast"
    write_tiny(made.dist / "sales-0.1.0.pex", "sales", module=module, endpoints=("forecast",))
    with made:
        made.until_state("sales-0.1.0.pex", "ready")
        yield Checkout(folder, made)


def test_the_commands_of_the_page_forecast_all_shops(checkout: Checkout) -> None:
    """In their order, by a request, as a job and over files, with equal numbers; the warning that the page announces is there."""
    commands = [line for _, block in markdown_guide.blocks(TEXT, "sh") for line in re.sub(r"\\\n\s*", "", block).splitlines()]
    ours = [line for line in commands if not any(each in line for each in BY_HAND)]
    assert len(ours) == 9
    for line in ours:
        output = checkout.run(line)
        if "print(pl.read_parquet" in line:
            assert "shop-00000" in output
    found = [
        pl.read_parquet(checkout.folder / name).select("series", "time", "mean", "lower", "upper").sort("series", "time")
        for name in ("forecast.parquet", "forecast-of-job.parquet", "scored/*.parquet")
    ]
    assert found[0].height == SHOPS * 14
    for other in found[1:]:
        assert_frame_equal(other, found[0])
    sales = pl.read_parquet(checkout.folder / "sales.parquet")
    assert (
        found[0]
        .group_by("series")
        .agg(pl.col("time").min())
        .join(sales.group_by("series").agg(last=pl.col("time").max()), on="series")
        .filter(pl.col("time") != pl.col("last") + pl.duration(days=1))
        .is_empty()
    )
    (model,) = checkout.supervised.state()["models"]
    assert "at least 16 days" in str(checkout.supervised.release("sales-0.1.0.pex")), model
