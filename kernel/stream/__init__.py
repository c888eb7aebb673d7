"""The stream process: exec, attach and port-forward sessions between clients and open descriptors. See README.md.

From the top floor down:
- methods: entry point, methods on the bus, descriptors.
- server: the TCP socket: clients, their requests, limits.
- sessions: exec, attach, port-forward.
- wires: the protocols, SPDY and WebSocket.
- client: a client's connection, its HTTP request, tokens.
"""
