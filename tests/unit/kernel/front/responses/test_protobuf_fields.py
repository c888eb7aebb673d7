"""Fields by hand are what protobuf writes."""

from __future__ import annotations

import pytest

from kernel.cri.generated import cri_pb2 as cri
from kernel.front.responses import protobuf_fields


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16383, 16384, 1 << 21])
def test_a_field_is_what_protobuf_writes(size: int) -> None:
    item = cri.PodSandbox(id="x" * size)
    whole = cri.ListPodSandboxResponse(items=[item]).SerializeToString()
    assert protobuf_fields.field(1, item.SerializeToString()) == whole


def test_parts_hold_all_items_as_they_were_at_the_first() -> None:
    items = [bytes([number % 256]) for number in range(1001)]
    parts = protobuf_fields.parts(iter(items))
    first = next(parts)
    items.clear()
    rest = list(parts)
    assert [len(part) for part in (first, *rest)] == [500, 500, 1]
    assert b"".join((first, *rest)) == bytes(number % 256 for number in range(1001))
