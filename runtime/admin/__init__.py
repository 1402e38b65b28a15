"""The admin side: what operators ask a supervisor, over HTTP on a Unix socket in its run directory."""
