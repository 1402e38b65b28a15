"""Models and log lines as text for people. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from runtime.supervisor.host.log_buffer import LogLine
from runtime.supervisor.status.state import MirrorStatus, ModelReport
from runtime.text_table import format_size, format_table

_STATES = re.compile(
    r"(?<=  )(?:(?P<green>ready|ok)|(?P<red>refused|failed|unknown|problem|cannot load)"
    r"|(?P<yellow>[a-z]+ing|degraded|standby|warning))(?=  |$)",
    re.MULTILINE,
)
_CODES = {"green": 32, "red": 31, "yellow": 33}


def painted(text: str) -> str:
    """Returns tables with coloured states. `click.echo` removes the colours if it does not print to a terminal."""
    return _STATES.sub(lambda found: f"\x1b[{_CODES[str(found.lastgroup)]}m{found[0]}\x1b[0m", text)


def models_as_text(models: Sequence[ModelReport]) -> str:
    """Returns one line for each model, with the reason of its state and its remarks below."""
    if not models:
        return ""
    lines = format_table([("MODEL", "STATE", "SERVES"), *((model.name, model.state or "-", serves(model)) for model in models)])
    body = [lines[0]]
    for line, model in zip(lines[1:], models, strict=True):
        body += [line, *(f"    {remark}" for remark in ([model.reason] if model.reason else []) + [*remarks(model)])]
    return "\n".join(body)


def serves(model: ModelReport) -> str:
    """Returns `0.1.0`, or the percentages of several versions."""
    if len(model.serving) == 1:
        return model.serving[0].version
    return ", ".join(f"{share.version} {share.percent:g} %" for share in model.serving) or "nothing"


def remarks(model: ModelReport) -> Iterator[str]:
    """Yields the traffic policy of a model, and the rollouts and rollbacks that follow from it."""
    if model.pin:
        yield f"pinned to {model.pin}"
    if model.split:
        weights = " ".join(f"{name}={weight}" for name, weight in model.split.items())
        yield f"split {weights}" + (f" by {model.by}" if model.by else "")
    if model.shadow:
        stats = f": {_mirror_as_text(model.mirror)}" if model.mirror else ""
        yield f"{model.shadow_percent:g} % mirrored to {model.shadow}{stats}"
    if model.labels:
        yield "labels " + " ".join(f"{label}={version}" for label, version in sorted(model.labels.items()))
    for watched in model.probation:
        counts = f"{watched.answered} requests, {watched.failed} failed, {watched.crash_count} worker crashes"
        yield f"{watched.version} is on probation until {watched.until}: {counts}"
    if model.warm_standby:
        advice = f"roll back to it with `pexdock rollback {model.name}`"
        yield f"{model.warm_standby.version} is on warm standby until {model.warm_standby.until}: {advice}"
    for release in model.rolled_back:
        advice = f"to serve it nevertheless, run `pexdock promote {model.name} {release.version}`"
        yield f"{release.version} was rolled back: {release.reason}; {advice}"
    yield from model.remarks


def history_as_text(model: ModelReport) -> str:
    """Returns a table of traffic shifts, the latest last."""
    return "\n".join(format_table([("AT", "TO", "WHY"), *((shift.at, shift.what, shift.why) for shift in model.history)]))


def line_as_text(line: LogLine) -> str:
    """Returns a log line as `12:30:00 INFO iris 0.1.0[4711]: text`."""
    return f"{line.time[11:19]} {line.level.upper()} {line.source}[{line.pid}]: {line.text}"


def _mirror_as_text(found: MirrorStatus) -> str:
    deviation = f", largest deviation {found.deviation_max:g}" if found.deviation_max else ""
    times = f"{found.mirror_ms_mean:.1f} ms on average, {found.primary_ms_mean:.1f} ms for clients"
    return f"{found.requests} compared, {found.equal} equal{deviation}, {found.failed} failed, {found.skipped} skipped, {times}"


def memory(size_bytes: int) -> str:
    """Returns the memory of a process; a dash if there is no process."""
    return format_size(size_bytes) if size_bytes else "-"
