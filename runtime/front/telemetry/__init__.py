"""Records metrics, outcomes of requests to watched releases, comparisons of mirrored requests, and the access log of a front door.

It imports only `base`. Requests, scheduling and routing call it, and so does the front door process, which sends the reports.
"""
