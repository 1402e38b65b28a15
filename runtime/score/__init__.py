"""Owns the scoring of files: finds them, reads their rows in batches, has the batches computed, and writes the results, once each.

It may import the front door and the supervisor, whose parts decode rows, link workers and start them. Only `workers`, `prepared_model` and
`run` know where workers live: the driver knows a protocol, so that a cluster engine can take their place. The commands `pexdock score` and
`pexdock check --run` call it.
"""
