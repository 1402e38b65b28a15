"""What a front door records of requests: metrics, outcomes of watched releases, comparisons of mirrored requests, and the access log.

Imports only `base`. Called by requests, scheduling and routing, and by the process of a front door, which sends the reports.
"""
