"""Resources of the machine that the supervisor uses: the run directory, listening sockets, the log, niceness and the process tree.

It may import only `base`. The supervisor and its child processes call it, and so does the command line, which finds a running supervisor
here.
"""
