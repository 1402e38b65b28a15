"""Pexdock's own processes: the supervisor, the front door, the command."""
