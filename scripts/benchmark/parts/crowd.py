"""Crowd: the effect of a hundred models in dist/ on the one that gets requests."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from benchmark import pexdock
from benchmark.load import Circumstances
from benchmark.parts.part import HEAD, Part, cells, data, folder, link_base, rate, rounds, source
from benchmark.processes import pss_bytes
from benchmark.tables import table

MODELS, NAME = 100, "crowd{:03}"

SETTINGS = {"start_timeout_s": 600}
"""Time for two cores to start a hundred workers."""


def run(given: Circumstances) -> Part:
    """Measures two Pexdocks at the same time, with one model and with a hundred; the same model gets requests in both."""
    with ExitStack() as stack:
        scratch, alone, crowd = (stack.enter_context(folder()) for _ in range(3))
        for dist in (alone, crowd):
            link_base(given, dist)
        built = pexdock.build_model(crowd, pexdock.write_project(scratch / "projects", NAME.format(0), source(NAME.format(0))))
        (alone / built.name).hardlink_to(built)
        for each in range(1, MODELS):
            pexdock.copy_model(built, NAME.format(0), NAME.format(each))
        served = {}
        for name, dist in {"1": alone, str(MODELS): crowd}.items():
            (scratch / name).mkdir()
            served[name] = stack.enter_context(pexdock.serving(scratch / name, dist, SETTINGS))
        variants = {name: partial(rate, f"{it.url}/{NAME.format(0)}", 64, given) for name, it in served.items()}
        found = rounds(variants, given.rounds)
        sizes = {name: pss_bytes(it.processes) for name, it in served.items()}
    rows = [[name, *cells(each, found["1"])[:3], f"{sizes[name] / 1e6:.0f}"] for name, each in found.items()]
    lines = table(["models in dist/", *HEAD[:3], "PSS MB"], rows)
    lines += ["64 connections. Both ran all the time and were asked in turn. The target is a ratio of at least 0.95.\n"]
    return Part(f"{MODELS} models, one asked", lines, data(found) | {"pss_bytes": sizes})
