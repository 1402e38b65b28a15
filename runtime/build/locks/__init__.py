"""Reads what a project's lock pins: one module for each form of a lock, each of which yields the same `Pin`.

May import `runtime.build.tool` and modules below `runtime.build`. `find` chooses the lock of a project; nothing else knows the forms.
"""
