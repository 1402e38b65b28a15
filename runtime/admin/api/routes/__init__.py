"""The resources of the admin API: models and their caches, traffic, jobs, log lines and uploads.

It may import the other modules of `runtime.admin.api` except `app`. The application adds its routes.
"""
