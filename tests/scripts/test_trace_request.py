"""The way of a request through the packages of the front door stays short and straight."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import trace_request

pytestmark = pytest.mark.processes

MAX_STAYS = {"in": 25, "out": 15}


@pytest.fixture(scope="module")
def traced():
    """Traces in a process of its own, since a front door gives its shared memory back when its process ends."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-P", trace_request.__file__, "--json"]
    return json.loads(subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout)


@pytest.mark.parametrize("direction", MAX_STAYS)
@pytest.mark.parametrize("head", ["new head", "known head"])
def test_a_prediction_enters_few_modules(traced, head: str, direction: str) -> None:
    """A call from one module into another is a stay; what is called from there and returns is part of it."""
    assert len(traced[head][direction]) <= MAX_STAYS[direction], trace_request.as_text(traced)


@pytest.mark.parametrize("head", ["new head", "known head"])
def test_a_request_is_handed_on_once(traced, head: str) -> None:
    """Connection and application are done with it once it is queued, and nothing below them goes on with a response that they write."""
    way_in, way_out = ([module.split(".")[1] for module, _ in traced[head][each] if module.startswith("front.")] for each in ("in", "out"))
    assert not {"http", "app"}.intersection(way_in[way_in.index("scheduling") :])
    assert not {"requests", "scheduling"}.intersection(way_out[way_out.index("http") :])


def test_a_detour_is_found_out(traced) -> None:
    """The checks above can fail: a known head spares the modules that parse one."""
    assert len(traced["known head"]["in"]) < len(traced["new head"]["in"])
