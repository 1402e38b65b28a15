"""Decides whether a pex is trusted: by a signature in OpenSSH's format or by a list of digests.

May import `base.errors` only. Called by the supervisor before anything of a pex is read, and by the command line.
"""
