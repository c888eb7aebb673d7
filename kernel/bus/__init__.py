"""The bus: ZeroMQ over ipc, msgpack bodies, one ROUTER per worker. See docs/bus.md for the wire."""
