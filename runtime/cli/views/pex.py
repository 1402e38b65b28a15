"""A built pex as text for people. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.build.pack import BuiltPex


def build_as_text(built: BuiltPex) -> str:
    """Returns the file, its size and digest, its bill of materials, and the packages that it carries."""
    sizes = f"{size_as_text(built.size_bytes)} (packages {size_as_text(built.own_bytes)}, pex itself {size_as_text(built.bootstrap_bytes)})"
    lines = [
        f"{built.path}: {built.kind} {built.name} {built.version}{', unchanged since the last build' if built.reused else ''}",
        f"  size     {sizes}",
        f"  sha256   {built.sha256}",
        f"  sbom     {built.sbom}",
    ]
    if built.carried:
        lines.append(f"  carries  {', '.join(f'{name} {version}' for name, version in built.carried)}")
    return "\n".join(lines)


def size_as_text(size_bytes: int) -> str:
    """Returns a size with more digits than `runtime.text_table` gives, since sizes of pexes are compared."""
    return f"{size_bytes / 1e6:.2f} MB" if size_bytes >= 1e5 else f"{size_bytes / 1e3:.1f} kB"
