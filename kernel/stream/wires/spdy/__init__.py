"""SPDY/3.1, either side of a connection, without input and output: bytes in, events out. Pure.

It imports nothing of crisp but itself. The specification is draft 3.1 of "SPDY Protocol" (The Chromium Projects).
Sections in these modules are sections of it. From the top floor down:
- connection: one connection, which converts bytes into events, and calls into bytes.
- streams: the open streams, and flow control.
- headers: header blocks and their compression.
- frames: frames to bytes, and bytes to frames.
- events: the results of `Connection.receive`.
- errors: the error that ends a connection.
"""

from kernel.stream.wires.spdy.connection import Connection
from kernel.stream.wires.spdy.errors import ProtocolError
from kernel.stream.wires.spdy.events import Data, Event, GoneAway, Opened, Replied, Reset, Window
from kernel.stream.wires.spdy.frames import MOST_DATA, Status
from kernel.stream.wires.spdy.streams import MOST_STREAMS, WINDOW

__all__ = [
    "MOST_DATA", "MOST_STREAMS", "WINDOW", "Connection", "Data", "Event", "GoneAway", "Opened", "ProtocolError",
    "Replied", "Reset", "Status", "Window",
]  # fmt: skip
