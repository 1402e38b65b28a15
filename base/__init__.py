"""What model code imports and what a worker process runs."""

__version__ = "0.2.0.dev0"
