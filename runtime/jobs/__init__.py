"""Jobs as they are stored: records, states, files and the order in which they run.

May import `base` and the modules of `runtime` that know no process. The job runner owns the store; front doors know the records and where
bodies lie.
"""
