"""A built pex as text for people. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.build.model import ModelPlan
    from runtime.build.pack import BuiltPex


def build_as_text(built: BuiltPex) -> str:
    """Returns the file, its size and digest, its bill of materials, the packages that it carries, and warnings."""
    sizes = f"{size_as_text(built.size_bytes)} (packages {size_as_text(built.own_bytes)}, pex itself {size_as_text(built.bootstrap_bytes)})"
    return "\n".join(
        [
            f"{built.path}: {built.kind} {built.name} {built.version}{', unchanged since the last build' if built.reused else ''}",
            f"  size     {sizes}",
            f"  sha256   {built.sha256}",
            f"  sbom     {built.sbom}",
            *_column("carries", _sizes(built.carried)),
            *(f"warning: {warning}" for warning in built.warnings),
        ]
    )


def plan_as_text(plan: ModelPlan) -> str:
    """Returns what a build would pack, from which lock, and what base provides."""
    return "\n".join(
        [
            f"{plan.name}-{plan.version}.pex would be built: model {plan.name} {plan.version}",
            f"  lock     {plan.lock or 'none'}",
            *_column("carries", _sizes(plan.carried) or ["nothing besides the model"]),
            *_column(f"base {plan.base_version} provides", [f"{name} {version}" for name, version in sorted(plan.provided.items())]),
            *_column("excluded", plan.excluded),
            *(f"warning: {warning}" for warning in plan.warnings),
        ]
    )


def _column(title: str, lines: Sequence[str]) -> Iterator[str]:
    """Yields the lines with the title before the first."""
    indent = max(9, len(title) + 2)
    for number, line in enumerate(lines):
        yield f"  {title if number == 0 else '':<{indent}}{line}"


def _sizes(carried: Sequence[tuple[str, str, int]]) -> list[str]:
    return [f"{name} {version}, {size_as_text(size)}" for name, version, size in carried]


def size_as_text(size_bytes: int) -> str:
    """Returns a size with more digits than `runtime.text_table` gives, since sizes of pexes are compared."""
    return f"{size_bytes / 1e6:.2f} MB" if size_bytes >= 1e5 else f"{size_bytes / 1e3:.1f} kB"
