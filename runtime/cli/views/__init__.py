"""Turns what commands show into text: tables, details and progress.

It imports the data that it shows, from `runtime.admin.schemas` and `runtime.supervisor.status`, and `runtime.text_table`.
The commands in `runtime.cli` call it.
"""
