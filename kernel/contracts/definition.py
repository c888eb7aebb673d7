"""How a contract is written: a name and its methods, each with typed request and reply. Pure.

Structures are frozen, take keywords only and refuse unknown fields. msgspec checks every field's type on decoding, so
a body that does not fit its contract never reaches a handler.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

Request = TypeVar("Request", bound="Message")
Reply = TypeVar("Reply", bound="Message")


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all structures that cross the bus."""


class Nothing(Message, frozen=True):
    """A request or reply without fields."""


class Method(Generic[Request, Reply]):
    """One operation of a worker.

    `deadline`: seconds that the call may take, unless the caller's own deadline is earlier. `repeat`: whether the
    caller's side sends the request again if the worker dies during the call. The handler of such a method must be
    idempotent, keyed by the id in the request, and must join or wait for an earlier call on the same id that is still
    under way. `progress`: the type of the messages that are sent before the reply, if any. `watch`: the reply never
    comes, and progress messages report events; after the worker's death the caller's side sends the request again.
    """

    __slots__ = ("deadline", "name", "progress", "repeat", "reply", "request", "watch")

    def __init__(
        self,
        name: str,
        request: type[Request],
        reply: type[Reply],
        *,
        deadline: float,
        repeat: bool = True,
        progress: object = None,
        watch: bool = False,
    ) -> None:
        self.name = name
        self.request = request
        self.reply = reply
        self.deadline = deadline
        self.repeat = repeat
        self.progress = progress
        """The type, or union of types, of a progress message; None if the method sends none."""
        self.watch = watch


class Contract:
    """A worker's methods by name. Who may call them is decided by the permissions of its socket's folder, not here."""

    def __init__(self, worker: str, *methods: Method[Message, Message] | Method) -> None:  # type: ignore[type-arg]
        self.worker = worker
        self.methods: dict[str, Method[Message, Message]] = {method.name: method for method in methods}


class Hello(Message, frozen=True, kw_only=True):
    """The answer of a ready worker to the built-in method `hello`."""

    pid: int
    """Its process id, in the host's PID namespace."""
    started_ns: int
    """When it became ready, in nanoseconds of CLOCK_BOOTTIME."""
    errors: int = 0
    """Background tasks that failed since then because of the host or another process; each left a warning."""
    bugs: int = 0
    """Background tasks and callbacks that a bug of crisp has ended since then; each left a traceback in the log."""


HELLO = Method("hello", Nothing, Hello, deadline=3.0)
"""Report that the worker is ready: the supervisor's check of readiness, and its heartbeat. Every worker has it."""
