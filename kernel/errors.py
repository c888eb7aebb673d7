"""The closed set of errors that cross a process or reach the kubelet.

    CrispError
    ├── InvalidInput         the caller's mistake; repeating cannot help         INVALID_ARGUMENT
    ├── NotFound             the object named does not exist                     NOT_FOUND
    ├── AlreadyExists        another object holds the name                       ALREADY_EXISTS
    ├── FailedPrecondition   the object or the host is not in a state for it     FAILED_PRECONDITION
    ├── Unauthenticated      a registry refused the credentials                  UNAUTHENTICATED
    ├── PermissionDenied     a policy or a registry refuses it                   PERMISSION_DENIED
    ├── Untrusted            the node's policy for signatures refuses it         UNKNOWN
    ├── ResourceExhausted    disk, inodes, memory or a limit of crisp            RESOURCE_EXHAUSTED
    ├── DeadlineExceeded     the caller's deadline passed                        DEADLINE_EXCEEDED
    ├── Cancelled            the caller went away                                CANCELLED
    ├── Unavailable          a peer or a worker is away; repeating can help      UNAVAILABLE
    ├── Unimplemented        a call or a field that crisp does not serve         UNIMPLEMENTED
    ├── Corrupt              bytes that do not match their digest                DATA_LOSS
    └── Internal             the host or crisp itself failed                     INTERNAL

An exception of another library becomes one of these in the module that called the library. The one place that maps
them to gRPC codes is `kernel.front.interceptor`. A message tells what failed, on which object and why, in
lower case and with no full stop; `hint` tells what to do about it.
"""

from __future__ import annotations

import errno

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Error numbers of a file system that has no room: full, over its quota, or a file beyond the largest size."""


class CrispError(Exception):
    """Base of all errors of crisp; raise one of its subclasses."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class InvalidInput(CrispError):
    """A field of the request is wrong; the message names the field by its path."""


class NotFound(CrispError):
    """The object named does not exist."""


class AlreadyExists(CrispError):
    """Another object holds the name."""


class FailedPrecondition(CrispError):
    """The object or the host is not in a state that allows the step."""


class Unauthenticated(CrispError):
    """A registry refused the credentials, or needs some."""


class PermissionDenied(CrispError):
    """A policy, a registry or the kernel refuses it."""


class Untrusted(CrispError):
    """The node's policy for signatures does not accept the image.

    Its gRPC code is UNKNOWN and its message begins with SignatureValidationFailed: the kubelet looks for that word, and
    only in the message of an UNKNOWN error.
    """


class ResourceExhausted(CrispError):
    """Disk, inodes, memory or a limit of crisp is used up."""


class DeadlineExceeded(CrispError):
    """The deadline that the caller gave has passed."""


class Cancelled(CrispError):
    """The caller went away before the end."""


class Unavailable(CrispError):
    """A peer or a worker is away; repeating can help."""


class Unimplemented(CrispError):
    """A call or a field that crisp does not serve."""


class Corrupt(CrispError):
    """Bytes that do not match their digest, or a record that does not read back."""


class Internal(CrispError):
    """The host or crisp itself failed."""


KINDS: dict[str, type[CrispError]] = {
    kind.__name__: kind
    for kind in (
        InvalidInput,
        NotFound,
        AlreadyExists,
        FailedPrecondition,
        Unauthenticated,
        PermissionDenied,
        Untrusted,
        ResourceExhausted,
        DeadlineExceeded,
        Cancelled,
        Unavailable,
        Unimplemented,
        Corrupt,
        Internal,
    )
}


def from_os(error: OSError, what: str, otherwise: type[CrispError] = Internal) -> CrispError:
    """Return `what: reason` for a failed operation on one of crisp's files.

    It is ResourceExhausted if there is no room for it, else `otherwise`. The caller raises it `from error`.
    """
    kind = ResourceExhausted if error.errno in FULL else otherwise
    return kind(f"{what}: {error.strerror or error}")
