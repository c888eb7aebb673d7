"""Commands in a container and connections to it: ExecSync, exec and attach. Pure."""

from __future__ import annotations

from kernel.contracts.contract import Message, Method, Nothing
from kernel.ids import ContainerId, SessionId


class ExecRequest(Message, frozen=True, kw_only=True):
    """A command in a running container."""

    container: ContainerId
    cmd: tuple[str, ...]
    timeout: int
    """Seconds, after which the process tree is killed; no limit but the caller's deadline where 0."""


class Executed(Message, frozen=True, kw_only=True):
    """Output, each stream cut at 16 MiB."""

    stdout: bytes
    stderr: bytes
    exit_code: int


class OpenExecRequest(Message, frozen=True, kw_only=True):
    """A command in a running container, its input and output to be handed to the stream process."""

    session: SessionId
    container: ContainerId
    cmd: tuple[str, ...]
    tty: bool = False
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    """Those not wanted are /dev/null; a terminal is all three."""
    width: int = 0
    height: int = 0
    """Of the terminal, where it is known already; it can be set at any time later."""


class OpenAttachRequest(Message, frozen=True, kw_only=True):
    """A connection to a container's own input and output, to be handed to the stream process."""

    session: SessionId
    container: ContainerId


class SessionRequest(Message, frozen=True, kw_only=True):
    """A session by id."""

    session: SessionId


EXEC = Method("exec", ExecRequest, Executed, deadline=3600, repeat=False)
"""Not repeated: the command may have run."""
OPEN_EXEC = Method("open_exec", OpenExecRequest, Nothing, deadline=60, repeat=False)
"""Start the command and hand its descriptors over (roles stdin, stdout, stderr as asked, or terminal; and status).
Not repeated: the command may have run. FailedPrecondition where the container does not run, Internal with the OCI
runtime's words where the command cannot be started, Unavailable where the stream process does not take it."""
OPEN_ATTACH = Method("open_attach", OpenAttachRequest, Nothing, deadline=30)
"""Hand over a new connection to the container's attach socket (role attach, and control where it has a terminal)."""
CLOSE_SESSION = Method("close_session", SessionRequest, Nothing, deadline=30)
"""Kill what is left of the session's command; none of it left, or no such session, is success."""
