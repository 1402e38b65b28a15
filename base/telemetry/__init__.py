"""Metrics of front doors and workers, and the files that they are written to.

Owns the definitions and summaries of metrics, the reports that processes send, their lines in CloudWatch's format, and the watchdog of
event loops.
Imports only `base.ipc`. Called by the worker, by front doors, and by their parent, which writes the lines.
"""
