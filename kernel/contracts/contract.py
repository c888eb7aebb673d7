"""How a contract is written: a name and its methods, each with typed request and reply. Pure.

Structures are frozen, take keywords only and refuse unknown fields; msgspec checks every field's type on
decoding, so a frame that does not fit its contract never reaches a handler.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

Request = TypeVar("Request", bound="Message")
Reply = TypeVar("Reply", bound="Message")


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all that crosses the bus."""


class Nothing(Message, frozen=True):
    """A request or reply with nothing to say."""


class Method(Generic[Request, Reply]):
    """One thing that a worker does.

    `deadline`: seconds the step may take where the caller gives no earlier moment.
    `repeat`: whether the caller's side may send it again after the worker died in the middle. A handler of
    such a method must be idempotent, keyed by the id in the request, and must join or wait for an earlier
    call on the same id that still runs.
    `progress`: messages sent before the reply, if any. `watch`: the reply never comes; progress is the point,
    and after the worker's death the caller's side asks again.
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
        """The type (or union of types) of a progress message; None where there is none."""
        self.watch = watch


class Contract:
    """A worker's methods by name. Who may call is decided by the permissions of its socket's folder, not here."""

    def __init__(self, worker: str, *methods: Method[Message, Message] | Method) -> None:  # type: ignore[type-arg]
        self.worker = worker
        self.methods: dict[str, Method[Message, Message]] = {method.name: method for method in methods}


class Hello(Message, frozen=True, kw_only=True):
    """What every worker answers to the built-in method `hello`: it is up, and this is who it is."""

    pid: int
    started_ns: int
    """CLOCK_BOOTTIME, nanoseconds."""


HELLO = Method("hello", Nothing, Hello, deadline=3.0)
"""Built into every worker: readiness and heartbeat."""
