"""What has no owner is found in the workers' inventories and removed by the idempotent calls of the flows."""

from __future__ import annotations

from typing import cast

import pytest

from kernel.bus.client import Client
from kernel.contracts import image, network, runtime, storage
from kernel.contracts.definition import Message, Method, Nothing
from kernel.contracts.records import IntentKind
from kernel.contracts.supervisor import Commit
from kernel.errors import Unavailable
from kernel.front import flows
from kernel.front.context import Front
from kernel.front.node import doctor
from kernel.host.aio import Deadline
from kernel.ids import ContainerId, SandboxId
from kernel.state.recover import Orphan, OrphanFound
from tests.harness.fakes import pod_workers as fakes

CONTAINER, SANDBOX, DIGEST = "c" * 64, "a" * 64, "sha256:" + "d" * 64
CALLS = {
    Orphan.CONTAINER: (CONTAINER, runtime.REMOVE, "container_id"),
    Orphan.POD: (SANDBOX, runtime.REMOVE_POD, "sandbox_id"),
    Orphan.NETWORK: (SANDBOX, network.DETACH, "sandbox_id"),
    Orphan.ROOTFS: (CONTAINER, storage.UNMOUNT, "container_id"),
    Orphan.CGROUP: ("/crisp/x", runtime.SWEEP, ""),
    Orphan.PARTIAL_LAYER: ("x.partial", storage.SWEEP, ""),
    Orphan.LAYER: (DIGEST, storage.REMOVE_LAYER, "diff_id"),
    Orphan.BLOB: (DIGEST, image.DROP, "digests"),
}
"""For each kind an id, the method that removes it, and the field of the request that has the id."""


class Worker:
    """Answers inventories, and records every other call."""

    def __init__(self, answers: dict[str, Message | Unavailable]) -> None:
        self.answers = answers
        self.calls: list[tuple[object, Message]] = []

    async def call(self, method: Method[Message, Message], request: Message, **_: object) -> Message:
        answer = self.answers.get(method.name)
        if isinstance(answer, Unavailable):
            raise answer
        if answer is None:
            self.calls.append((method, request))
        return answer or Nothing()


@pytest.mark.parametrize("kind", Orphan)
async def test_each_kind_is_swept_by_one_call(front: Front, kind: Orphan) -> None:
    name, method, field = CALLS[kind]
    worker = Worker({})
    front.runtime = front.network = front.storage = front.image = cast("Client", worker)
    await doctor.sweep(front, OrphanFound(kind=kind, id=name, why="?"), Deadline.after(5))
    ((called, request),) = worker.calls
    assert called is method
    if field:
        assert getattr(request, field) in (name, (name,))


async def test_what_belongs_to_no_record_is_an_orphan(front: Front, host: fakes.Host, pod: str) -> None:
    container = await fakes.create(front, pod)
    held = Worker({
        "inventory": runtime.Inventory(
            pods=(SandboxId(pod), SandboxId(SANDBOX)),
            containers=(ContainerId(container), ContainerId(CONTAINER)),
            cgroups=("/crisp/x",),
        )
    })  # fmt: skip
    held.watch = host.watch  # type: ignore[attr-defined]
    front.runtime = cast("Client", held)
    front.network = front.storage = front.image = cast("Client", Worker(dict.fromkeys(
        ("inventory", "blobs"), Unavailable("the worker is down")
    )))  # fmt: skip
    examined = await doctor.examine(front, Deadline.after(5))
    assert {(one.kind, one.id) for one in examined.orphans} == {
        (Orphan.POD, SANDBOX), (Orphan.CONTAINER, CONTAINER), (Orphan.CGROUP, "/crisp/x"),
    }  # fmt: skip
    assert examined.silent.keys() == {"network", "storage", "image"}


async def test_a_blob_is_not_removed_while_a_pull_or_a_load_may_use_it(front: Front) -> None:
    blob = OrphanFound(kind=Orphan.BLOB, id=DIGEST, why="?")
    assert doctor.certain(front, blob)
    front.images.loads = 1
    assert not doctor.certain(front, blob)
    front.images.loads = 0
    intent = flows.intent(IntentKind.PULL_IMAGE, "busybox")
    await front.replica.commit(Commit(begin=(intent,)), Deadline.after(5))
    assert not doctor.certain(front, blob)
    assert doctor.certain(front, OrphanFound(kind=Orphan.CGROUP, id="/crisp/x", why="?"))
    assert not doctor.certain(front, OrphanFound(kind=Orphan.CGROUP, id="/crisp/x", why="?", sweep=False))
