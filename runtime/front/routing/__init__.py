"""Where a request leads: from its path to endpoints, and from the traffic split of a model to one of its releases.

Owns the route table, traffic splits with client affinity and fallback, and the mirroring of requests to another release. Imports
`scheduling` and the packages below it. Called by the application of the front door.
"""
