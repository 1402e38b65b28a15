"""Jobs over HTTP: requests that are accepted as jobs, and the resource /jobs.

It may import `runtime.jobs`, the ASGI helpers of `runtime.front.app` and the packages below that. The ASGI application calls it. The job
runner decides about jobs; here are only what HTTP adds, and the bytes of bodies and results.
"""
