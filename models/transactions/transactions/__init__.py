"""Ratings of card transactions, with one model a country and subdivision.

Light on purpose: `transactions.train` comes through here before it knows whether anything big must be imported.
"""
