"""The stream process: sessions of exec, attach and port-forward between clients and open file descriptors.

Descriptors come from the runtime and network workers over a unix socket beside the bus (`Paths.stream_fds`,
`kernel.host.fdpass`), each message a `Passed`. A session's id is its token: 128 bits in URL-safe letters.
"""

from __future__ import annotations

import enum

import msgspec

from kernel.contracts.contract import Message
from kernel.errors import InvalidInput
from kernel.ids import SessionId


class Role(enum.Enum):
    """What a passed descriptor is."""

    STDIN = "stdin"
    """Write end of a command's standard input; closing it is end of file."""
    STDOUT = "stdout"
    STDERR = "stderr"
    """Read ends of a command's output. A child of the command may hold them open after its end."""
    TERMINAL = "terminal"
    """The controlling side of a command's terminal, for input, output and size (TIOCSWINSZ); EIO is end of file."""
    STATUS = "status"
    """Comes with every command: a pipe on which its exit code (0 to 255, 128 and the number where a signal ended it)
    comes in decimal digits and a newline once it has ended. End of file without it: nobody knows how it ended. Closing
    it ends what is left of the command."""
    ATTACH = "attach"
    """A container's attach socket (SOCK_SEQPACKET): each packet received is output, its first byte 2 for stdout and 3
    for stderr; what is sent is input, and shutdown(SHUT_WR) its end. End of file: the container's output has ended."""
    CONTROL = "control"
    """Of an attached container with a terminal: a pipe that takes its size, `1 HEIGHT WIDTH` and a newline, in one
    write."""
    CONNECTION = "connection"
    """A TCP connection into a pod."""


class Passed(Message, frozen=True, kw_only=True):
    """A message with descriptors, as many as there are roles and in their order."""

    session: SessionId
    connection: int = 0
    """Of a port-forward, the number that the stream process gave it."""
    roles: tuple[Role, ...]

    def encode(self) -> bytes:
        """As it is sent."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def decode(cls, message: bytes) -> Passed:
        """Read one; InvalidInput where it is none."""
        try:
            return msgspec.msgpack.decode(message, type=cls)
        except msgspec.DecodeError as error:
            raise InvalidInput(f"a message with descriptors does not read: {error}") from error
