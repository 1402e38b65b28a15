"""One thing that was looked at, and what was found. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from runtime.text_table import format_table


class Level(StrEnum):
    """How bad it is. A problem keeps something from being served."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


class Finding(msgspec.Struct, frozen=True):
    """`advice` says what to do, and is empty where nothing is to be done."""

    subject: str
    level: Level
    text: str
    advice: str = ""


def ok(subject: str, text: str) -> Finding:
    """All is well."""
    return Finding(subject, Level.OK, text)


def warning(subject: str, text: str, advice: str) -> Finding:
    """Somebody should look."""
    return Finding(subject, Level.WARNING, text, advice)


def problem(subject: str, text: str, advice: str) -> Finding:
    """Somebody must do something."""
    return Finding(subject, Level.PROBLEM, text, advice)


def worst_level(findings: Sequence[Finding]) -> Level:
    """Of all."""
    order = list(Level)
    return max((finding.level for finding in findings), key=order.index, default=Level.OK)


def format_findings(findings: Sequence[Finding]) -> str:
    """A line each, with what to do below."""
    lines = format_table([(finding.subject, finding.level.value, finding.text) for finding in findings])
    body: list[str] = []
    for line, finding in zip(lines, findings, strict=True):
        body += [line] + ([f"    → {finding.advice}"] if finding.advice else [])
    return "\n".join(body)
