"""Owns the parts of each release at run time: its files in the cache, its worker processes and the timers of its rollout.

It imports `status`, `rollout`, `processes` and `runtime.pex`. `traffic` and `fleet` change releases through it, and the admin API reads it.
"""
