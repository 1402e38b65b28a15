"""Owns the values of columns in the forms of others: as JSON has them, and as Polars can hold what Arrow has.

May import base.errors only.
Called by base.worker for results and by the front door for requests and answers, so that both do it alike.
"""
