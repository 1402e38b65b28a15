"""Rates card transactions, with a model for each country and subdivision.

This module imports nothing heavy, since `transactions.train` imports it before it knows whether there is anything to train.
"""
