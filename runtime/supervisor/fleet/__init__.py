"""Takes the releases of one dist/ from a file to their place in the routing table, and decides after every change what follows.

It imports `traffic`, `releases`, `rollout`, `dist` and `runtime.pex`.
The supervisor passes it the events of dist/ and publishes its routing table; the admin API reads from it and gives orders.
"""
