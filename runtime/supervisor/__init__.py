"""Runs the processes of one Pexdock: it watches dist/, starts front doors and workers, moves traffic between releases, and reports.

It imports `runtime.pex`, `runtime.http` and `base`, and nothing of the admin API or the command line. `runtime.serve` runs it together with
an admin server, and the admin API calls its fleet.
"""
