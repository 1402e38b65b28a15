"""Owns a request from its parsed head to its response: its target, limits and deadline, and the data of its endpoint and release.

It may import codecs, memory and telemetry of the front door and `runtime.http`, and nothing of workers, scheduling or routing. Every
package above it uses it, and scheduling and routing implement its base classes.
"""
