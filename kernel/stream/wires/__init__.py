"""Protocols that carry a session's channels over a client's connection.

From the top floor down:
- spdy_wire: channels as streams of SPDY, which `spdy` implements (a package of its own, pure).
- channels_wire: channels as messages of a WebSocket.
- websocket: WebSockets, by the library `websockets`.
- carrier: the interface between protocols and sessions.
- channel: one channel.
"""
