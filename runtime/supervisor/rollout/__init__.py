"""Decides which releases run and which receive requests, from their states and the traffic policies of operators.

It imports `base`, the state machine and the settings, and no other package of the supervisor. All of it except the policy file is pure.
`fleet`, `traffic`, `releases` and `status` call it.
"""
