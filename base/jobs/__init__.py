"""Owns what the handler of a job can do: report progress and store checkpoints.

May import nothing of `base` but its lowest layer. `svc.Context` calls it, and a worker makes an attempt for each batch of a job.
"""
