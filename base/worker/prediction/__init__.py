"""One endpoint in a worker: its model, the call of its handler, and the conversion of frames and results.

Imports base.endpoint, base.artifacts, base.schema, base.telemetry and base.ipc, and knows no channel. Called by base.worker.link and by the
warm-up of a worker.
"""
