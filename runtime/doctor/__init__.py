"""Checks a machine, its folders and its pexes for problems, before Pexdock runs or while it does. Changes nothing.

May import everything below the command line. Called by `pexdock doctor`.
"""
