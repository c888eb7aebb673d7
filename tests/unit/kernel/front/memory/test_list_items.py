"""Items of lists are the messages that they stand for."""

from __future__ import annotations

from msgspec.structs import replace

from kernel.contracts.records import ContainerState
from kernel.cri.generated import cri_pb2 as cri
from kernel.front.memory.list_items import Items
from kernel.front.responses import views
from tests.unit.kernel.front.memory.test_replica import ONE


def test_kept_items_are_the_messages_they_stand_for() -> None:
    items = Items(views.container_item, limit=2)
    records = [replace(ONE, id=f"{i:064x}", labels={"large": "x" * i * 100}) for i in range(5)]
    for _ in range(2):
        reply = cri.ListContainersResponse.FromString(b"".join(map(items.of, records)))
        assert list(reply.containers) == [views.container_item(record) for record in records]
    ended = replace(records[0], state=ContainerState.EXITED)
    assert cri.ListContainersResponse.FromString(items.of(ended)).containers[0].state == cri.CONTAINER_EXITED
