"""The cache folder of supervisors: unpacked bases, admitted releases and the venvs of their workers.

It may import `base` and `runtime.pex`. The supervisor calls it, and so does `pexdock unpack`, which fills the cache beforehand.
"""
