"""Pex files: what they say of themselves, whether they fit, and where they are unpacked."""
