"""Clients of the stream process, before and below their protocol.

From the top floor down:
- client_connection: a client's bytes, bounded both ways.
- tls: the certificate of the server's socket.
- upgrade: the HTTP request that begins a session. Pure.
- tokens: which sessions are expected. Pure.
- rate: how often something may happen. Pure.
"""
