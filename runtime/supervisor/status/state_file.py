"""The state file in the run directory, which `pexdock models` and `pexdock doctor` read."""

from __future__ import annotations

from pathlib import Path

import msgspec

from base.errors import PexdockError
from runtime.atomic_file import write_atomically
from runtime.supervisor.host import run_dir
from runtime.supervisor.status.state import State
from runtime.supervisor.status.survey import survey


def state_path(run_path: Path) -> Path:
    """Returns the path of the state file."""
    return run_path / run_dir.STATE


def write_state(run_path: Path, state: State) -> None:
    """Replaces the state file atomically. Only this user can read it."""
    write_atomically(state_path(run_path), msgspec.json.format(msgspec.json.encode(state)) + b"\n", mode=0o600)


def read_state(run_path: Path, dist_path: Path) -> State:
    """Returns the state of the supervisor that uses `run_path`, or if none runs, the contents of `dist_path`.

    Raises:
        PexdockError: The state file cannot be read.
    """
    pid = run_dir.find_supervisor_pid(run_path)
    if pid is None:
        return survey(dist_path)
    try:
        return msgspec.json.decode(state_path(run_path).read_bytes(), type=State)
    except FileNotFoundError:
        return State(dist_path=str(dist_path), pid=pid)  # it is starting or shutting down
    except (OSError, msgspec.MsgspecError) as exc:
        raise PexdockError(f"cannot read the state of the supervisor with pid {pid}: {exc}") from exc
