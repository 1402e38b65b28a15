"""Checks a machine, its folders and its pexes for problems, before or while Pexdock runs. Changes nothing.

May import everything below the command line. Called by `pexdock doctor`.
"""
