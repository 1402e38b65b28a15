"""The cache folder of supervisors: unpacked bases, admitted releases and the venvs of their workers.

May import `base` and `runtime.pex`. Called by the supervisor, and by `pexdock unpack`, which fills the cache beforehand.
"""
