"""The exit statuses of `crisp`. Pure."""

from __future__ import annotations

import enum

from kernel.errors import CrispError, InvalidInput, NotFound, Unavailable


class Exit(enum.IntEnum):
    """Statuses of the command itself; `exec` and `run --rm` exit with the container's status."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    NOT_REACHABLE = 4
    UNHEALTHY = 5


HELP = """\
exit status:
  0  done
  1  failed
  2  wrong usage: arguments, configuration file
  3  no such pod, container, image or worker
  4  the daemon cannot be reached
  5  the daemon or the node is not healthy (status, doctor, net, top, image check)
`crisp exec` and `crisp run --rm` exit with the status of the command in the container."""


class NotReachable(Unavailable):
    """No daemon listens on the socket."""


def status_of(error: CrispError) -> Exit:
    """Return the exit status for an error."""
    match error:
        case NotReachable():
            return Exit.NOT_REACHABLE
        case NotFound():
            return Exit.NOT_FOUND
        case InvalidInput():
            return Exit.USAGE
        case _:
            return Exit.FAILED
