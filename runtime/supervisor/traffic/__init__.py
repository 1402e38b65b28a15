"""Moves the requests of each model from release to release, by orders of operators and by the verdict of probation.

It imports `releases`, `rollout` and `status`; the decisions themselves are in `rollout`. `fleet` calls it after every change, and the admin
API calls it for orders.
"""
