"""What every RPC of the front is given: the wiring, and the call's own deadline and trace.

A spine is `async def name(front: Front, request, call: Call) -> reply`; a streaming one is an async generator.
Spines reach workers only through `front`'s clients, and records only through `front.replica`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Never

from google.protobuf.message import Message

from kernel.bus.client import Client
from kernel.config.sections import Config
from kernel.contracts.contract import Nothing
from kernel.contracts.records import Container, Image, Sandbox
from kernel.contracts.runtime import PLATFORM, Platform
from kernel.front.memory.image_memory import ImageMemory
from kernel.front.memory.pending_sessions import PendingSessions
from kernel.front.memory.replica import Replica
from kernel.front.memory.short_names import ShortNames
from kernel.front.memory.stats_items import StatsItems
from kernel.front.memory.stats_memory import StatsMemory
from kernel.front.memory.subscribers import Subscribers
from kernel.front.requests.keys import ContainerKey, SandboxKey
from kernel.front.responses.image_views import to_cri
from kernel.front.responses.views import LIST_FIELD, Items, container_item, pod_item
from kernel.host.aio import Deadline, Joins, KeyedLock, Tasks
from kernel.ids import ContainerId, SandboxId

FLOW_SECONDS = 240.0
"""What a flow that was begun may take at least: its caller may leave earlier, and a repeat joins it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One RPC being served. The interceptor ends it at `deadline`; what it has begun in `Front.tasks` goes on."""

    rpc: str
    deadline: Deadline
    trace: str

    def flow_deadline(self, seconds: float = FLOW_SECONDS) -> Deadline:
        """The deadline of a flow that goes on without its caller: the caller's, but not less than `seconds`."""
        return Deadline.after(max(self.deadline.remaining(), seconds))


@dataclass(slots=True, kw_only=True)
class Front:
    """The front's parts. Made once, by `kernel.front.server.create`."""

    config: Config
    replica: Replica
    supervisor: Client
    image: Client
    storage: Client
    network: Client
    runtime: Client
    stream: Client
    tasks: Tasks
    boot_id: str
    runs: Joins[SandboxKey, SandboxId]
    """RunPodSandbox under way."""
    creates: Joins[ContainerKey, ContainerId]
    """CreateContainer under way."""
    ends: Joins[tuple[str, ...], None]
    """Every flow that answers with nothing, by its kind and the id it is about."""
    locks: KeyedLock[str] = field(default_factory=KeyedLock)
    """One flow at a time for each sandbox, container or image, by id."""
    subscribers: Subscribers = field(default_factory=Subscribers)
    """The streams of GetContainerEvents."""
    images: ImageMemory = field(default_factory=ImageMemory)
    """How far pulls are, and the sizes of the file systems."""
    stats: StatsMemory = field(default_factory=StatsMemory)
    """What pods and containers used when they were last read."""
    stats_items: StatsItems = field(init=False)
    short_names: ShortNames = field(init=False)
    """What references without a registry stand for."""
    pod_items: Items[Sandbox] = field(default_factory=lambda: Items(pod_item, LIST_FIELD))
    container_items: Items[Container] = field(default_factory=lambda: Items(container_item, LIST_FIELD))
    image_items: Items[Image] = field(init=False)
    """What lists are made of."""
    sessions: PendingSessions = field(default_factory=PendingSessions)
    """Exec, attach and port-forward sessions whose clients are to come."""
    creating: dict[SandboxId, set[asyncio.Task[ContainerId]]] = field(default_factory=dict)
    """CreateContainer flows under way, which the sandbox's end waits for."""

    def __post_init__(self) -> None:
        self.stats_items = StatsItems(str(self.config.paths.containers))
        pinned = self.config.image.pinned
        self.image_items = Items(lambda image: to_cri(image, pinned), LIST_FIELD)
        self.short_names = ShortNames(Path(self.config.image.registries_conf))
        self.replica.expand = self.short_names.local

    async def platform(self, deadline: Deadline) -> Platform:
        """The runtime as it is on this host; asked for where it is not known yet."""
        if self.replica.platform is None:
            self.replica.platform = await self.runtime.call(PLATFORM, Nothing(), deadline=deadline)
        return self.replica.platform


Serve = Callable[[Front, Never, Call], Awaitable[Message | bytes]]
"""A unary RPC. The request is the RPC's own message; a reply in bytes is a message serialised already."""
ServeStream = Callable[[Front, Never, Call], AsyncIterator[Message | bytes]]
"""A server-streaming RPC."""
Rpcs = Mapping[str, Serve | ServeStream]
"""The served RPCs of a service by name; the others answer UNIMPLEMENTED."""
