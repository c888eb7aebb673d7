"""The bus between crisp's processes: ZeroMQ over ipc, one ROUTER socket per worker. docs/bus.md describes the wire.

From the wire up:

- `codec`: the header frame of a message, MessagePack read with hard limits. Pure; imports msgpack alone.
- `envelope`: the kinds of message, and their frames. Pure.
- `endpoint`: a ZeroMQ socket on the event loop. Imports zmq alone.
- `calls`: the states of the calls to one worker, as its caller keeps them. Pure.
- `client`: the caller's side, for the front, the supervisor and the command line.
- `worker`: the worker's side, and the skeleton of a worker's process.
"""
