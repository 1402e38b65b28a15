"""Child processes of the supervisor: front doors and workers, how they are started, limited, restarted and replaced.

May import `base`, `runtime.state_machine` and `runtime.supervisor.host`, and nothing that decides about releases. Called by the supervisor
and by the releases that own workers.
"""
