"""Which records the filters of lists accept."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from kernel.contracts.records import ContainerState, SandboxState
from kernel.cri.generated import cri_pb2 as cri
from kernel.front.responses import list_filters
from kernel.ids import ContainerId, SandboxId
from tests.unit.kernel.front.memory.test_replica import ONE, POD

PODS = [
    replace(POD, id=SandboxId("ab" * 32), labels={"app": "web", "tier": "1"}, state=SandboxState.READY),
    replace(POD, id=SandboxId("ac" * 32), labels={"app": "web"}, state=SandboxState.NOT_READY),
]
CONTAINERS = [
    replace(ONE, id=ContainerId("cd" * 32), sandbox_id=PODS[0].id, labels={"app": "web"}, state=ContainerState.RUNNING),
    replace(ONE, id=ContainerId("ce" * 32), sandbox_id=PODS[1].id, labels={}, state=ContainerState.EXITED),
]


@pytest.mark.parametrize(
    ("given", "accepted"),
    [
        (cri.PodSandboxFilter(), [0, 1]),
        (cri.PodSandboxFilter(id="a"), [0, 1]),
        (cri.PodSandboxFilter(id="aba"), [0]),
        (cri.PodSandboxFilter(id="ba"), []),
        (cri.PodSandboxFilter(state=cri.PodSandboxStateValue(state=cri.SANDBOX_READY)), [0]),
        (cri.PodSandboxFilter(state=cri.PodSandboxStateValue(state=cri.SANDBOX_NOTREADY)), [1]),
        (cri.PodSandboxFilter(label_selector={"app": "web"}), [0, 1]),
        (cri.PodSandboxFilter(label_selector={"app": "web", "tier": "1"}), [0]),
        (cri.PodSandboxFilter(label_selector={"app": "we"}), []),
    ],
)
def test_pods(given: cri.PodSandboxFilter, accepted: list[int]) -> None:
    assert list(list_filters.pods_that_pass(PODS, given)) == [PODS[index] for index in accepted]


@pytest.mark.parametrize(
    ("given", "accepted"),
    [
        (cri.ContainerFilter(), [0, 1]),
        (cri.ContainerFilter(id="cd"), [0]),
        (cri.ContainerFilter(pod_sandbox_id="ac"), [1]),
        (cri.ContainerFilter(id="cd", pod_sandbox_id="ac"), []),
        (cri.ContainerFilter(state=cri.ContainerStateValue(state=cri.CONTAINER_RUNNING)), [0]),
        (cri.ContainerFilter(label_selector={"app": "web"}), [0]),
    ],
)
def test_containers(given: cri.ContainerFilter, accepted: list[int]) -> None:
    assert list(list_filters.containers_that_pass(CONTAINERS, given)) == [CONTAINERS[index] for index in accepted]
