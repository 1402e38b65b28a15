"""The worker's side of the channel to each front door: messages, segments, and the batches that are computed.

Imports base.worker.prediction and what that imports. Called by the worker's loop in base.worker.
"""
