"""`crisp`, the command line: a client of the CRI socket, and of the supervisor's bus endpoint for its processes.

Keeps no state and starts nothing but what the daemon's sockets offer; only `crisp daemon` becomes the daemon itself.
"""
