"""Routes requests: finds the endpoints of a path, and chooses a release by the traffic split of its model.

It owns the route table, traffic splits with client affinity and fallback, and the mirroring of requests to another release. It imports
`scheduling` and the packages below it. The application of the front door calls it.
"""
