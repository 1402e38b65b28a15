"""Admits and queues requests, groups them into batches, and decides which worker gets the next batch and when.

It may import workers, requests, codecs, memory and telemetry of the front door, and nothing of routing, app or http. The app and routing
submit requests through `admission` and apply routing tables through `dispatchers`.
"""
