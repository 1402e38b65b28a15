"""The report: tables in Markdown, all measurements in JSON, and plots, side by side in one folder."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from benchmark import environments, plots
from benchmark.load import DISTURBED, Circumstances, Measured, Work
from benchmark.parts.part import Part
from benchmark.servers import Server
from benchmark.tables import CPU, OURS, P99, RATE, Comparison, Metric, of_work, table
from benchmark.targets import judge

PLOTS = {"rates": RATE, "cpu": CPU}
"""The plots of closed loops; open loops have one of p99."""

METHOD = """\
Every server serves the same scikit-learn `LinearRegression` on three columns with one worker, and gets the same rows as JSON in its own
native format. In each round each server is restarted, must answer more than 256 requests correctly, and is then measured for {seconds:g}
s per line, with no other server running; the order rotates from round to round. Numbers are medians of {rounds} rounds, with minimum
and maximum in brackets. `×` is the ratio to the best other server. Closed loops use `wrk` with one thread. Open loops send requests at a
fixed rate when they are due, as a Poisson process on up to 64 connections, and measure latency from the due time; `late` is the delay
of the generator itself, at its own p99. CPU is the user and system time of all processes of the server per request. A measurement during
which other processes used more than {disturbed:g} cores was repeated, up to {tries} times, and the least disturbed one counts;
{others:.0%} of all numbers were still disturbed.
"""


def write(output: Path, found: Comparison, facts: Mapping[str, str], given: Circumstances) -> Path:
    """Writes `output`.md, .json and its plots, and returns the path of the first."""
    output.parent.mkdir(parents=True, exist_ok=True)
    for name, metric in PLOTS.items():
        panels = [_panel(found, work, metric) for work in found.works if work.rate is None]
        _of(output, f"-{name}.svg").write_text(plots.draw(panels))
    panels = [_panel(found, work, P99) for work in found.works if work.rate is not None]
    _of(output, "-latency.svg").write_text(plots.draw(panels))
    _of(output, ".json").write_text(_json(found, facts, given))
    _of(output, ".md").write_text("\n".join(_markdown(output.name, found, facts, given)))
    return _of(output, ".md")


def write_part(output: Path, part: Part, facts: Mapping[str, str]) -> Path:
    """Writes a part about Pexdock alone as `output`.md and .json, and returns the path of the first."""
    output.parent.mkdir(parents=True, exist_ok=True)
    head = [f"# {part.title}\n", f"Made by `scripts/bench --only {output.name}`; do not edit.\n"]
    _of(output, ".md").write_text("\n".join([*head, *part.lines, *table(["machine", ""], facts.items())]))
    _of(output, ".json").write_text(json.dumps({"machine": dict(facts), **part.data}, indent=1) + "\n")
    return _of(output, ".md")


def _of(output: Path, ending: str) -> Path:
    return output.with_name(output.name + ending)


def _panel(found: Comparison, work: Work, metric: Metric) -> plots.Panel:
    bars = [
        plots.Bar(server.name, statistics.median(rounds), min(rounds), max(rounds), server.name == OURS)
        for server in found.servers
        if (rounds := [getattr(measured, metric.field) for measured in found.rounds(server.name, work)])
    ]
    return plots.Panel(work.name, metric.title, bars)


def _markdown(name: str, found: Comparison, facts: Mapping[str, str], given: Circumstances) -> Iterator[str]:
    yield "# Pexdock next to other model servers\n"
    yield "Made by `scripts/bench`; do not edit.\n"
    yield "## Targets\n"
    yield from table(["work", "what", OURS, "best other", "target", "ratio", "reached"], judge(found))
    yield "## Where Pexdock loses\n"
    yield from _lost(found)
    yield "## How\n"
    yield _method(found, given)
    yield from table(["machine", ""], facts.items())
    yield from table(["server", "version", "settings", "at work"], map(_settings(found), found.servers))
    yield from _failures(found)
    yield f"## Closed loop\n\n![requests/s]({name}-rates.svg)\n![CPU]({name}-cpu.svg)\n"
    for work in found.works:
        if work.rate is not None:
            continue
        yield f"### {work.name}\n"
        yield from of_work(found, work)
    yield f"## Open loop\n\n![p99]({name}-latency.svg)\n"
    for work in found.works:
        if work.rate is not None:
            yield f"### {work.name}\n"
            yield from of_work(found, work)
            yield from _below(found, work)
    yield "## Memory and start\n"
    yield "Of all processes of the server after the load, shared pages divided by who shares them; and until the first right answer.\n"
    yield from table(["server", "PSS MB", "start s"], _weights(found))


def _method(found: Comparison, given: Circumstances) -> str:
    measured = found.results.measured.values()
    disturbed = [one.others > DISTURBED for rounds in measured for one in rounds]
    return METHOD.format(
        rounds=max(map(len, measured), default=0),
        seconds=given.seconds,
        disturbed=DISTURBED,
        tries=given.tries,
        others=sum(disturbed) / len(disturbed) if disturbed else 0,
    )


def _lost(found: Comparison) -> Iterator[str]:
    rows = [[work.name, metric.title, f"×{ratio:.2f}", _best(found, work, metric)] for work, metric, ratio in found.lost()]
    rows += _heavier(found, "PSS MB", {name: statistics.median(sizes) / 1e6 for name, sizes in found.results.pss_bytes.items()})
    rows += _heavier(found, "start s", {name: statistics.median(times) for name, times in found.results.start_s.items()})
    yield from table(["work", "what", "ratio", "best other"], rows) if rows else ["Nowhere in this run.\n"]


def _heavier(found: Comparison, title: str, medians: Mapping[str, float]) -> Iterator[list[str]]:
    others = {server.name: medians[server.name] for server in found.servers if server.answers and server.name in medians}
    own = others.pop(OURS, 0)
    name = min(others, key=lambda other: others[other], default="")
    if name and own > others[name]:
        yield ["memory and start", title, f"×{own / others[name]:.2f}", f"{plots.number(others[name])}, {name}"]


def _best(found: Comparison, work: Work, metric: Metric) -> str:
    name, value = found.best_peer(work, metric) or ("", 0.0)
    return f"{plots.number(value)}, {name}"


def _settings(found: Comparison) -> Callable[[Server], list[str]]:
    def row(server: Server) -> list[str]:
        aside = "first round only: its other settings were better at everything" if server.name in found.results.set_aside else "all rounds"
        return [server.name, environments.version(server.peer, server.distribution), server.settings, aside]

    return row


def _failures(found: Comparison) -> Iterator[str]:
    for name, reason in found.results.failures.items():
        yield f"**{name}** could not be measured to the end:\n\n```\n{reason.strip()[-1500:]}\n```\n"


def _below(found: Comparison, work: Work) -> Iterator[str]:
    names = [server.name for server in found.servers if (server.name, work.name) in found.results.below]
    if names:
        yield f"Not able to answer so many, by what they did in closed loops: {', '.join(names)}.\n"


def _weights(found: Comparison) -> Iterator[list[str]]:
    results = found.results
    sizes = {name: statistics.median(rounds) / 1e6 for name, rounds in results.pss_bytes.items() if rounds}
    for name, size in sorted(sizes.items(), key=lambda item: item[1]):
        yield [name, f"{size:.0f}", f"{statistics.median(results.start_s[name]):.1f}"]


def _json(found: Comparison, facts: Mapping[str, str], given: Circumstances) -> str:
    """Returns JSON with one line for each measurement, so that diffs of later runs are readable."""
    results, lines = found.results, []
    for (name, work), rounds in results.measured.items():
        lines += [json.dumps({"server": name, "work": work, "round": number + 1, **_rounded(one)}) for number, one in enumerate(rounds)]
    head = {
        "machine": dict(facts),
        "seconds": given.seconds,
        "pss_bytes": results.pss_bytes,
        "start_s": results.start_s,
        "failures": results.failures,
    }
    return json.dumps(head, indent=1)[:-2] + ',\n "measured": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n"


def _rounded(measured: Measured) -> dict[str, float]:
    return {name: round(value, 3) for name, value in measured._asdict().items()}
