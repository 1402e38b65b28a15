"""Owns copies of files that survive a power cut.

May import nothing of `base`. Called for the checkpoints of jobs and by the clients that store artifacts.
"""
