"""The findings of `pexdock doctor`, and how they are printed. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from runtime.text_table import format_table


class Level(StrEnum):
    """Severity of a finding. A problem prevents something from being served."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


class Finding(msgspec.Struct, frozen=True):
    """The result of one check.

    Attributes:
        subject: What was checked.
        level: Severity.
        text: What was found.
        advice: What to do; empty if nothing is to be done.
    """

    subject: str
    level: Level
    text: str
    advice: str = ""


def ok(subject: str, text: str) -> Finding:
    """Returns a finding that needs no action."""
    return Finding(subject, Level.OK, text)


def warning(subject: str, text: str, advice: str) -> Finding:
    """Returns a finding that should be looked at."""
    return Finding(subject, Level.WARNING, text, advice)


def problem(subject: str, text: str, advice: str) -> Finding:
    """Returns a finding that must be corrected."""
    return Finding(subject, Level.PROBLEM, text, advice)


def worst_level(findings: Sequence[Finding]) -> Level:
    """Returns the highest severity among findings."""
    order = list(Level)
    return max((finding.level for finding in findings), key=order.index, default=Level.OK)


def format_findings(findings: Sequence[Finding]) -> str:
    """Returns a line for each finding, with its advice below."""
    lines = format_table([(finding.subject, finding.level.value, finding.text) for finding in findings])
    body: list[str] = []
    for line, finding in zip(lines, findings, strict=True):
        body += [line] + ([f"    → {finding.advice}"] if finding.advice else [])
    return "\n".join(body)
