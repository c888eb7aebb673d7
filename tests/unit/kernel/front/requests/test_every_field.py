"""Whoever looks for a field of the CRI finds it: a module of the requests names it, and the message that it is in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor

import kernel.front.requests
from kernel.cri.generated import cri_pb2 as cri

REQUESTS = ("RunPodSandboxRequest", "CreateContainerRequest", "PullImageRequest")
TEXTS = [path.read_text() for path in Path(kernel.front.requests.__file__).parent.glob("[!_]*.py")]


def reachable(message: Descriptor, found: dict[str, Descriptor]) -> dict[str, Descriptor]:
    """Return a message of the CRI and all that its fields are made of, but wrappers, maps and other systems' parts."""
    if message.name not in found and not re.search(r"^Windows|Entry$|^Int64Value$", message.name):
        found[message.name] = message
        for field in message.fields:
            if field.message_type is not None:
                reachable(field.message_type, found)
    return found


FIELDS = sorted(
    {
        (message.name, field.name)
        for name in REQUESTS
        for message in reachable(cri.DESCRIPTOR.message_types_by_name[name], {}).values()
        for field in message.fields
        if field.name != "windows"
    }
)


@pytest.mark.parametrize(("message", "field"), FIELDS)
def test_a_field_is_named_with_its_message(message: str, field: str) -> None:
    words = (re.compile(rf"\b{message}\b"), re.compile(rf"\b{field}\b"))
    assert any(all(word.search(text) for word in words) for text in TEXTS), (
        f"{message}.{field}: say in kernel/front/requests where it is checked, or why it is ignored"
    )
