"""Commands in a container and connections to it: ExecSync, exec and attach. Pure."""

from __future__ import annotations

from kernel.contracts.definition import Message, Method, Nothing
from kernel.ids import ContainerId, SessionId


class ExecRequest(Message, frozen=True, kw_only=True):
    """A command to run in a container (CRI ExecSyncRequest)."""

    container_id: ContainerId
    cmd: tuple[str, ...]
    """The program and its arguments."""
    timeout: int
    """Seconds after which the command's process tree is killed. If 0, only the caller's deadline ends it."""


class Executed(Message, frozen=True, kw_only=True):
    """The result of a command."""

    stdout: bytes
    """The output, at most 16 MiB; the rest is cut off. So is the rest of stderr."""
    stderr: bytes
    exit_code: int
    """0 to 255; 128 plus the signal's number if a signal ended it."""


class OpenExecRequest(Message, frozen=True, kw_only=True):
    """A command to run in a container, with its input and output handed to the stream process (CRI ExecRequest)."""

    session: SessionId
    container_id: ContainerId
    cmd: tuple[str, ...]
    """The program and its arguments."""
    tty: bool = False
    """Whether it gets a terminal, which replaces its input and both outputs."""
    stdin: bool = False
    """Whether its input is handed over; if not, it is /dev/null. The next two fields are the same for its outputs."""
    stdout: bool = False
    stderr: bool = False
    width: int = 0
    """Columns of the terminal; 0 if unknown. The size can be set at any time later."""
    height: int = 0
    """Rows of the terminal; 0 if unknown."""


class OpenAttachRequest(Message, frozen=True, kw_only=True):
    """A connection to a container's own input and output, handed to the stream process (CRI AttachRequest)."""

    session: SessionId
    container_id: ContainerId


class SessionRequest(Message, frozen=True, kw_only=True):
    """A session by id."""

    session: SessionId


EXEC = Method("exec", ExecRequest, Executed, deadline=3600, repeat=False)
"""Run a command in a running container and wait for its end. It is not repeated, because the command may have run."""
OPEN_EXEC = Method("open_exec", OpenExecRequest, Nothing, deadline=60, repeat=False)
"""Start a command and hand its descriptors over: the roles stdin, stdout and stderr as requested, or terminal; and
status. It is not repeated, because the command may have run. FailedPrecondition if the container does not run, Internal
with the OCI runtime's message if the command cannot be started, Unavailable if the stream process does not take the
descriptors."""
OPEN_ATTACH = Method("open_attach", OpenAttachRequest, Nothing, deadline=30)
"""Hand over a new connection to the container's attach socket: the role attach, and control if it has a terminal."""
CLOSE_SESSION = Method("close_session", SessionRequest, Nothing, deadline=30)
"""Kill the processes that are left of a session's command. It is success if there are none, or no such session."""
