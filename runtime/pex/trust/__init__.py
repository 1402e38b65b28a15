"""Decides whether a pex is trusted: by a signature in OpenSSH's format or by a list of digests.

It may import only `base.errors`. The supervisor calls it before it reads any content of a pex, and so does the command line.
"""
