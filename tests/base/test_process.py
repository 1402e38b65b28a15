"""How processes are started."""

from __future__ import annotations

from importlib.util import find_spec

from base.process import FRONT_DOOR_MODULE, front_door_command
from runtime.front.__main__ import parse_arguments


def test_the_module_of_a_front_door_exists_and_accepts_the_command_that_starts_it() -> None:
    """`base` does not import it, so neither types nor the import contracts would notice that it was renamed."""
    assert find_spec(f"{FRONT_DOOR_MODULE}.__main__") is not None
    command, _ = front_door_command(listen_fds=[7, 9], stdout_fd=8)
    module = command.index(FRONT_DOOR_MODULE)
    arguments = parse_arguments([*command[module + 1 :], "--control-fd", "6"])
    assert (arguments.control_fd, arguments.listen_fds, arguments.stdout_fd) == (6, [7, 9], 8)
