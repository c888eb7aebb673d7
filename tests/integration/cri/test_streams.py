"""The Stream forms of the lists say what the lists say."""

from __future__ import annotations

import pytest

from kernel.cri.generated import cri_pb2 as pb
from tests.harness.cri import Cri

FORMS = [
    ("ListPodSandbox", "items", "StreamPodSandboxes", "pod_sandboxes"),
    ("ListContainers", "containers", "StreamContainers", "containers"),
    ("ListImages", "images", "StreamImages", "images"),
]


@pytest.mark.parametrize(("listing", "items", "streaming", "parts"), FORMS, ids=[form[2] for form in FORMS])
def test_the_stream_is_the_list(pods, cri: Cri, listing: str, items: str, streaming: str, parts: str) -> None:
    for _ in range(2):
        pods().create("sleep", "1")
    whole = {item.id: item for item in getattr(cri.call(listing), items)}
    streamed = [item for part in cri.call(streaming) for item in getattr(part, parts)]
    assert len(streamed) == len(whole) > 0
    assert {item.id: item for item in streamed} == whole


def test_a_stream_takes_the_lists_filter(pods, cri: Cri) -> None:
    pod, _ = pods(), pods()
    found = cri.call("StreamPodSandboxes", filter=pb.PodSandboxFilter(id=pod.id))
    assert [item.id for part in found for item in part.pod_sandboxes] == [pod.id]
