"""The wire between a front door and a worker, and the words between a parent and its children."""
