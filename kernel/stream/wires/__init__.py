"""Protocols that carry a session's channels over a client's connection.

From the top floor down:
- spdy_wire: channels as streams of SPDY, which `spdy` implements (a package of its own, pure).
- channels_wire: channels as messages of a WebSocket.
- websocket: WebSockets, by the library `websockets`.
- carrier: what protocols and sessions know of each other.
- channel: one channel.
"""
