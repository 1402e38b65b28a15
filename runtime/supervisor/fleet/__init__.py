"""Takes the releases of one dist/ from a file to a place in the routing table, and decides after every change what to start and stop.

It imports `traffic`, `releases`, `rollout`, `dist` and `runtime.pex`. The supervisor passes it the events of dist/ and publishes its
routing table; the admin API reads from it and gives orders.
"""
