"""What is said and known of models, as text for people. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from runtime.supervisor.host.log_buffer import LogLine
from runtime.supervisor.status.state import MirrorStatus, ModelReport
from runtime.text_table import format_size, format_table

_STATES = re.compile(
    r"(?<=  )(?:(?P<green>ready|ok)|(?P<red>refused|failed|problem|cannot load)|(?P<yellow>[a-z]+ing|standby|warning))(?=  |$)",
    re.MULTILINE,
)
_CODES = {"green": 32, "red": 31, "yellow": 33}


def painted(text: str) -> str:
    """Tables with their states in colours. What prints them leaves the colours out off a terminal."""
    return _STATES.sub(lambda found: f"\x1b[{_CODES[str(found.lastgroup)]}m{found[0]}\x1b[0m", text)


def models_as_text(models: Sequence[ModelReport]) -> str:
    """A line a model, with what there is to say of it below."""
    if not models:
        return ""
    lines = format_table([("MODEL", "SERVES"), *((model.name, serves(model)) for model in models)])
    body = [lines[0]]
    for line, model in zip(lines[1:], models, strict=True):
        body += [line, *(f"    {remark}" for remark in remarks(model))]
    return "\n".join(body)


def serves(model: ModelReport) -> str:
    """`0.1.0`, or the shares of several."""
    if len(model.serves) == 1:
        return model.serves[0].version
    return ", ".join(f"{share.version} {share.percent:g} %" for share in model.serves) or "nothing"


def remarks(model: ModelReport) -> Iterator[str]:
    """What operators said, and what Pexdock did about it."""
    if model.pin:
        yield f"pinned to {model.pin}"
    if model.split:
        shares = " ".join(f"{name}={weight}" for name, weight in model.split.items())
        yield f"split {shares}" + (f" by {model.by}" if model.by else "")
    if model.shadow:
        yield f"{model.shadow_percent:g} % copied to {model.shadow}" + (f": {_compared(model.comparison)}" if model.comparison else "")
    if model.labels:
        yield "labels " + " ".join(f"{label}={version}" for label, version in sorted(model.labels.items()))
    for watched in model.probation:
        counts = f"{watched.answered} answered, {watched.failed} of them failed, {watched.deaths} workers died"
        yield f"{watched.version} is on probation until {watched.until}: {counts}"
    if model.previous:
        yield f"{model.previous.version} is kept ready until {model.previous.until}: `pexdock rollback {model.name}` has it serve"
    for taken in model.taken_back:
        yield f"{taken.version} was taken back: {taken.reason}; `pexdock promote {model.name} {taken.version}` has it serve all the same"
    yield from model.remarks


def history_as_text(model: ModelReport) -> str:
    """When requests moved, to what, and why; the last one last."""
    return "\n".join(format_table([("AT", "TO", "WHY"), *((flip.at, flip.what, flip.why) for flip in model.history)]))


def line_as_text(line: LogLine) -> str:
    """`12:30:00 iris 0.1.0[4711]: its line`."""
    return f"{line.time[11:19]} {line.source}[{line.pid}]: {line.text}"


def _compared(found: MirrorStatus) -> str:
    deviation = f", numbers differ by {found.deviation_max:g} at most" if found.deviation_max else ""
    times = f"{found.ms_copies_mean:.1f} ms where clients waited {found.ms_mean:.1f}"
    return f"{found.requests} compared, {found.equal} equal{deviation}, {found.failed} failed, {found.skipped} skipped, {times}"


def memory(size_bytes: int) -> str:
    """Of a process; a dash where there is none."""
    return format_size(size_bytes) if size_bytes else "-"
