"""Resources of the machine that the supervisor uses: the run directory, listening sockets, the log, niceness and the process tree.

May import `base` only. Called by the supervisor and its child processes, and by the command line, which finds a running supervisor here.
"""
