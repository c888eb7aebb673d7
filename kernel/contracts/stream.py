"""The stream process: sessions of exec, attach and port-forward between clients and open file descriptors.

Descriptors come from the runtime and network workers over a unix socket beside the bus (`Paths.stream_fds`,
`kernel.host.fdpass`), each message a `Passed`. A session's id is its token: 128 bits in URL-safe letters.

The front announces the sessions to expect, and the front's watch reports clients that came, ports to dial and clients
that left. A session that is under way needs only the stream process and its client.
"""

from __future__ import annotations

import enum

import msgspec

from kernel.contracts.definition import Contract, Message, Method, Nothing
from kernel.errors import InvalidInput
from kernel.ids import SessionId


class Role(enum.Enum):
    """The role of a passed descriptor."""

    STDIN = "stdin"
    """Write end of a command's standard input; closing it is end of file."""
    STDOUT = "stdout"
    """Read end of a command's output. A child of the command may hold it open after the command has ended."""
    STDERR = "stderr"
    """Read end of a command's error output; as STDOUT."""
    TERMINAL = "terminal"
    """The controlling side of a command's terminal, for input, output and size (TIOCSWINSZ); EIO is end of file."""
    STATUS = "status"
    """A pipe that comes with every command. Once the command has ended, its exit code (0 to 255; 128 plus the signal's
    number if a signal ended it) arrives in decimal digits and a newline. End of file without it means that the exit
    code is unknown. Closing the pipe ends what is left of the command."""
    ATTACH = "attach"
    """A container's attach socket (SOCK_SEQPACKET). Each packet received is output, after a first byte of 2 for stdout
    and 3 for stderr; each packet sent is input, and shutdown(SHUT_WR) ends it. End of file means that the container's
    output has ended."""
    CONTROL = "control"
    """A pipe that takes the size of an attached container's terminal: `1 HEIGHT WIDTH` and a newline, in one write."""
    CONNECTION = "connection"
    """A TCP connection into a pod."""


class Passed(Message, frozen=True, kw_only=True):
    """A message with descriptors: one for each role, in the order of the roles."""

    session: SessionId
    connection: int = 0
    """The number that the stream process gave a connection of a port-forward; 0 for exec and attach."""
    roles: tuple[Role, ...]

    def encode(self) -> bytes:
        """Return the message as it is sent, in MessagePack."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def decode(cls, message: bytes) -> Passed:
        """Read a message; raises InvalidInput if it is not one."""
        try:
            return msgspec.msgpack.decode(message, type=cls)
        except msgspec.DecodeError as error:
            raise InvalidInput(f"a message with descriptors does not read: {error}") from error


class Kind(enum.Enum):
    """The purpose of a session, and the first part of its URL's path."""

    EXEC = "exec"
    ATTACH = "attach"
    PORT_FORWARD = "portforward"


class ExpectRequest(Message, frozen=True, kw_only=True):
    """A session to which a client may connect, once."""

    session: SessionId
    kind: Kind
    target: str
    """The container's id; for a port-forward the pod sandbox's."""
    tty: bool = False
    """Whether the client gets a terminal. Together with the next three fields this is CRI ExecRequest and
    AttachRequest."""
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    ports: tuple[int, ...] = ()
    """Ports of a port-forward, for clients that name none."""
    expires_ns: int
    """End of the time in which the client may connect, in nanoseconds of CLOCK_BOOTTIME."""


class Expected(Message, frozen=True, kw_only=True):
    """The address to which the client must connect."""

    base_url: str
    """`http://host:port` or `https://host:port`; `/KIND/SESSION` follows."""


class RefuseRequest(Message, frozen=True, kw_only=True):
    """A session, or a connection of a port-forward, whose descriptors will not come."""

    session: SessionId
    connection: int = 0
    """The connection's number; 0 for exec and attach."""
    message: str
    """The reason, for the client."""


class Dial(Message, frozen=True, kw_only=True, tag="dial"):
    """A connection that a port-forward waits for."""

    session: SessionId
    connection: int
    """The number that the stream process gave it."""
    target: str
    """The pod sandbox's id."""
    port: int
    """TCP port, 1 to 65535."""


class Opened(Message, frozen=True, kw_only=True, tag="opened"):
    """A client has connected, and waits for the descriptors of an exec or attach."""

    session: SessionId
    kind: Kind
    target: str
    """The container's id."""
    width: int = 0
    """Columns of the client's terminal; 0 if unknown."""
    height: int = 0
    """Rows of the client's terminal; 0 if unknown."""


class Ended(Message, frozen=True, kw_only=True, tag="ended"):
    """A session has ended."""

    session: SessionId
    kind: Kind


class Waiting(Message, frozen=True, kw_only=True, tag="waiting"):
    """All that sessions wait for at this moment: the first message of a watch."""

    opened: tuple[Opened, ...] = ()
    """Clients of exec and attach that wait for descriptors."""
    dials: tuple[Dial, ...] = ()
    """Connections that port-forwards wait for."""


EXPECT = Method("expect", ExpectRequest, Expected, deadline=10)
"""Announce a session, and return the address to which its client must connect. A session that is announced already is
success. ResourceExhausted if too many clients have not connected yet."""
REFUSE = Method("refuse", RefuseRequest, Nothing, deadline=10)
"""Send the client the reason and end the session or connection. One that does not exist is success."""
WATCH = Method("watch", Nothing, Nothing, deadline=0, progress=Waiting | Opened | Dial | Ended, watch=True)
"""Report all that sessions wait for, then each client that comes, each connection to make and each session's end."""

CONTRACT = Contract("stream", EXPECT, REFUSE, WATCH)
