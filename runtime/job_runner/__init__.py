"""The job runner: the process that stores jobs and runs them on job workers.

May import `runtime.jobs` and the front door's scheduling. The supervisor starts it as `python -m runtime.job_runner`, and front doors talk
to it over its Unix socket.
"""
