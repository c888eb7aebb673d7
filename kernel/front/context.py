"""The two arguments of every RPC beside its request: the front's parts, and the call's deadline and trace.

An RPC is served by `async def name(front: Front, request, call: Call) -> reply`; a streaming one by an async
generator. These functions reach workers only through the clients of `front`, and records only through
`front.replica`.
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
from kernel.contracts.definition import Nothing
from kernel.contracts.records import Container, Image, Sandbox
from kernel.contracts.runtime import PLATFORM, Platform
from kernel.front.memory.image_memory import ImageMemory
from kernel.front.memory.list_items import Items
from kernel.front.memory.pending_sessions import PendingSessions
from kernel.front.memory.replica import Replica
from kernel.front.memory.short_names import ShortNames
from kernel.front.memory.stats_items import StatsItems
from kernel.front.memory.stats_memory import StatsMemory
from kernel.front.memory.subscribers import Subscribers
from kernel.front.requests.keys import ContainerKey, SandboxKey
from kernel.front.responses.image_views import to_cri
from kernel.front.responses.views import container_item, pod_item
from kernel.host.aio import Deadline, Joins, KeyedLock, Tasks
from kernel.ids import ContainerId, SandboxId

FLOW_SECONDS = 240.0
"""The least time that a flow may take: its caller may leave earlier, and a repeat joins it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One RPC being served. The interceptor ends it at `deadline`; flows that it has begun in `Front.tasks` go on."""

    rpc: str
    """Its name, such as `RunPodSandbox`."""
    deadline: Deadline
    trace: str
    """An id that is in every log line of the call, in all processes."""

    def flow_deadline(self, seconds: float = FLOW_SECONDS) -> Deadline:
        """Return the deadline of a flow that goes on without its caller: the caller's, but not less than `seconds`."""
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
    """All other flows, which have no result, by kind and by the id that they are about."""
    locks: KeyedLock[str] = field(default_factory=KeyedLock)
    """One flow at a time for each sandbox, container or image, by id."""
    subscribers: Subscribers = field(default_factory=Subscribers)
    """The streams of GetContainerEvents."""
    images: ImageMemory = field(default_factory=ImageMemory)
    """The pulls under way with their progress, and the sizes of the file systems."""
    stats: StatsMemory = field(default_factory=StatsMemory)
    """The last readings of what pods and containers use."""
    stats_items: StatsItems = field(init=False)
    """The last readings as serialised entries of lists."""
    short_names: ShortNames = field(init=False)
    """The full references that names without a registry may stand for."""
    pod_items: Items[Sandbox] = field(default_factory=lambda: Items(pod_item))
    container_items: Items[Container] = field(default_factory=lambda: Items(container_item))
    image_items: Items[Image] = field(init=False)
    """Records as serialised entries of lists, each made once."""
    sessions: PendingSessions = field(default_factory=PendingSessions)
    """Exec, attach and port-forward sessions that have a URL and no client yet."""
    creating: dict[SandboxId, set[asyncio.Task[ContainerId]]] = field(default_factory=dict)
    """CreateContainer flows under way, which the sandbox's end waits for."""

    def __post_init__(self) -> None:
        self.stats_items = StatsItems(str(self.config.paths.containers))
        pinned = self.config.image.pinned
        self.image_items = Items(lambda image: to_cri(image, pinned))
        self.short_names = ShortNames(Path(self.config.image.registries_conf))
        self.replica.image_index.expand = self.short_names.local

    async def platform(self, deadline: Deadline) -> Platform:
        """Return the properties of the runtime on this host; request them if they are not known yet."""
        if self.replica.platform is None:
            self.replica.platform = await self.runtime.call(PLATFORM, Nothing(), deadline=deadline)
        return self.replica.platform


Serve = Callable[[Front, Never, Call], Awaitable[Message | bytes]]
"""Serves a unary RPC. The request is the RPC's own message; a reply in bytes is a message serialised already."""
ServeStream = Callable[[Front, Never, Call], AsyncIterator[Message | bytes]]
"""Serves a server-streaming RPC."""
Rpcs = Mapping[str, Serve | ServeStream]
"""The functions that serve a service, by name of the RPC; the others are answered with UNIMPLEMENTED."""
