"""Clients of the stream process: the layers below their protocol.

From the top floor down:
- client_connection: a client's bytes, bounded both ways.
- tls: the certificate of the server's socket.
- upgrade: the HTTP request that begins a session. Pure.
- tokens: the sessions that are expected. Pure.
- rate: a limit on how often something may happen. Pure.
"""
