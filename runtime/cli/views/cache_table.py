"""Cache entries and refreshes as text for people. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from base.ipc.cache_control import CacheState, EntryState
from runtime.admin.schemas import ModelCaches, ModelRefresh, WorkerCaches
from runtime.text_table import format_duration, format_size, format_table

_HEAD = ("WORKER", "ENDPOINT", "PARAMETERS", "STATE", "AGE", "NEXT REFRESH", "LOADS", "FAILURES", "BYTES", "LAST ERROR")
_ERROR_CHARS = 120
"""More would wrap; the JSON output has the full text."""


def caches_as_text(models: Sequence[ModelCaches]) -> str:
    """Returns a table for each model, with remarks about its workers below."""
    return "\n\n".join("\n".join(_model(model)) for model in models)


def refresh_as_text(refresh: ModelRefresh) -> str:
    """Returns the number of refreshes that each worker has started, with an explanation if there are none."""
    lines = [f"{refresh.model} {refresh.version}: {_counted(refresh.begun, 'refresh', 'refreshes')} started"]
    if not refresh.begun:
        lines[0] += "; no matching entry is cached, or all are being loaded already (see `pexdock cache`)"
    lines += [f"  worker {worker.pid or '-'}: {worker.error.detail if worker.error else worker.begun}" for worker in refresh.workers]
    return "\n".join(lines)


def _model(model: ModelCaches) -> list[str]:
    rows = [
        _row(worker.pid, cache, entry)
        for worker in model.workers
        for cache in worker.caches
        for entry in reversed(cache.entries)  # the most recently used come first
    ]
    remarks = [f"  {remark}" for worker in model.workers for remark in _remarks(worker)]
    table = [f"  {line}" for line in format_table([_HEAD, *rows])] if rows else []
    return [f"{model.model} {model.version}", *table, *remarks]


def _row(pid: int | None, cache: CacheState, entry: EntryState) -> tuple[str, ...]:
    return (
        str(pid or "-"),
        cache.endpoint,
        _parameters(entry.parameters),
        entry.state,
        "-" if entry.age_s is None else format_duration(entry.age_s),
        _next(entry.next_refresh_s),
        str(entry.loads),
        str(entry.failures),
        format_size(entry.bytes),
        _error(entry.last_error),
    )


def _parameters(parameters: Mapping[str, str]) -> str:
    """Returns the parameters in the form that `--parameter` accepts."""
    return " ".join(shlex.quote(f"{name}={value}") for name, value in parameters.items()) or "-"


def _next(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"in {format_duration(seconds)}" if seconds else "now"


def _error(text: str | None) -> str:
    line = " ".join((text or "-").split())
    return line if len(line) <= _ERROR_CHARS else line[: _ERROR_CHARS - 1] + "…"


def _remarks(worker: WorkerCaches) -> list[str]:
    title = f"worker {worker.pid or '-'}"
    if worker.error is not None:
        return [f"{title}: {worker.error.detail}"]
    if not worker.caches:
        return [f"{title}: no endpoint has a cache"]
    empty = [f"{title}: {cache.endpoint} has loaded nothing yet" for cache in worker.caches if not cache.entry_count]
    cut = [
        f"{title}: {cache.endpoint} has {cache.entry_count} entries; the latest used are shown" for cache in worker.caches if _is_cut(cache)
    ]
    return empty + cut


def _is_cut(cache: CacheState) -> bool:
    return cache.entry_count > len(cache.entries)


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"
