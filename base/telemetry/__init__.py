"""Metrics of front doors and workers, and the files that take them.

Holds what is measured and how it is summarized, the reports in which a process tells it, and their lines in CloudWatch's format.
Imports only `base.ipc.control`. Called by the worker, by front doors, and by their parent, which writes the lines.
"""
