"""Owns a request from its parsed head to its response: target, limits, deadline, and what it knows of its endpoint and release.

It may import codecs, memory and telemetry of the front door and `runtime.http`, and nothing of workers, scheduling or routing, which
implement its base classes. Every package above it uses it.
"""
