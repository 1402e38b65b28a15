"""The store of jobs: their records and what is kept of them on the disk, behind one interface.

`interface` says what a store does, and `runtime.job_runner` uses nothing else of it. May import `base` and the other modules of
`runtime.jobs`. All calls block, so an event loop makes them by `runtime.blocking`, one at a time.
"""
