"""The stream process: sessions of exec, attach and port-forward between clients and open file descriptors.

Descriptors come from the runtime and network workers over a unix socket beside the bus (`Paths.stream_fds`,
`kernel.host.fdpass`), each message a `Passed`. A session's id is its token: 128 bits in URL-safe letters.

The front says which sessions to expect and hears, by its watch, of clients that came, ports to dial and clients that
left. A session that is under way needs nobody but the stream process and its client.
"""

from __future__ import annotations

import enum

import msgspec

from kernel.contracts.contract import Contract, Message, Method, Nothing
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


class Kind(enum.Enum):
    """What a session is for; the first part of its URL's path."""

    EXEC = "exec"
    ATTACH = "attach"
    PORT_FORWARD = "portforward"


class ExpectRequest(Message, frozen=True, kw_only=True):
    """A session whose client may come until `expires_ns` (CLOCK_BOOTTIME), once."""

    session: SessionId
    kind: Kind
    target: str
    """The container's id; of a port-forward the pod sandbox's."""
    tty: bool = False
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    ports: tuple[int, ...] = ()
    """Of a port-forward, for clients that do not name any themselves."""
    expires_ns: int


class Expected(Message, frozen=True, kw_only=True):
    """Where the client is to come: `http://host:port` or `https://host:port`; `/KIND/SESSION` follows."""

    base_url: str


class RefuseRequest(Message, frozen=True, kw_only=True):
    """What a session, or one connection of a port-forward, waits for does not come."""

    session: SessionId
    connection: int = 0
    message: str
    """For the client."""


class Dial(Message, frozen=True, kw_only=True, tag="dial"):
    """A connection that a port-forward waits for."""

    session: SessionId
    connection: int
    target: str
    port: int


class Opened(Message, frozen=True, kw_only=True, tag="opened"):
    """A client has come, and waits for the descriptors of an exec or attach."""

    session: SessionId
    kind: Kind
    target: str
    width: int = 0
    height: int = 0
    """Of its terminal, where known."""


class Ended(Message, frozen=True, kw_only=True, tag="ended"):
    """A session is over."""

    session: SessionId
    kind: Kind


class Waiting(Message, frozen=True, kw_only=True, tag="waiting"):
    """All that is waited for at this moment: what a watch begins with."""

    opened: tuple[Opened, ...] = ()
    dials: tuple[Dial, ...] = ()


EXPECT = Method("expect", ExpectRequest, Expected, deadline=10)
"""Expected already is success. ResourceExhausted where too many clients are still to come."""
REFUSE = Method("refuse", RefuseRequest, Nothing, deadline=10)
"""The client is told, and the session or connection ends; gone already is success."""
WATCH = Method("watch", Nothing, Nothing, deadline=0, progress=Waiting | Opened | Dial | Ended, watch=True)

CONTRACT = Contract("stream", EXPECT, REFUSE, WATCH)
