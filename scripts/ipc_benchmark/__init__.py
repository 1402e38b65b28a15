"""How long data takes from one process to another."""
