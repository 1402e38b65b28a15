"""Formats the announcement at the end of the start: the address, the models and their paths, a command to try, and problems. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from base.curl_example import curl_command
from base.ipc.front_door_control import Route
from runtime.supervisor.status.state import State

_GOOD_STATES = frozenset({"ready", "standby"})


def announce(state: State, routes: Iterable[Route]) -> str:
    """Returns the whole announcement."""
    serving = [route for route in routes if route.sockets]
    where = " and ".join(state.addresses or [state.address])
    lines = [f"Pexdock serves {len(serving)} model{'s' * (len(serving) != 1)} at {where} (documentation at {state.address}/docs)"]
    lines += [f"  {route.release.model} {route.release.version}: {_paths(route)}" for route in serving]
    problems = [report for report in state.releases if report.state not in _GOOD_STATES]
    lines += [f"  {report.file} is {report.state}: {report.reason or 'see the log'}" for report in problems]
    if state.waits_for:
        lines.append(
            f"/readyz reports not ready until {', '.join(state.waits_for)} can serve; the setting readiness chooses what it waits for."
        )
    if state.models and not state.releases:
        lines.append(f"{state.dist_path} has no pex, although models have served from it before: is dist_path mounted?")
    if not serving:
        lines.append(f"To serve a model, put its pex into {state.dist_url or state.dist_path}.")
    shown = [(len(endpoint.example.rows), endpoint) for route in serving for endpoint in route.release.endpoints if endpoint.example]
    if shown:
        _, shortest = min(shown, key=lambda each: each[0])
        lines += ["", f"Try: {curl_command(state.address, shortest)}"]
    return "\n".join(lines)


def _paths(route: Route) -> str:
    return ", ".join(f"{endpoint.method} {endpoint.path}" for endpoint in route.release.endpoints)
