"""Lists and statuses, over the socket."""

from __future__ import annotations

import json

from kernel.cri.generated import cri_pb2 as cri
from kernel.cri.generated import cri_pb2_grpc as rpc
from kernel.errors import Internal
from kernel.front.context import Front
from kernel.front.node import queries
from tests.harness.fakes import pod_workers as fakes


async def test_a_verbose_status_gives_info_even_where_the_runtime_does_not(
    front: Front, host: fakes.Host, pod: str
) -> None:
    container = await fakes.create(front, pod)
    host.fail["inspect"] = [Internal("the runtime worker is away")]
    request = cri.ContainerStatusRequest(container_id=container, verbose=True)
    reply = await queries.container_status(front, request, fakes.a_call())
    info = json.loads(reply.info["info"])
    assert (info["sandboxID"], info["pid"]) == (pod, 7)
    assert "away" in info["error"]


async def test_lists_are_filtered_and_streamed(front: Front, runtime: rpc.RuntimeServiceAsyncStub) -> None:
    pods = [await fakes.run(front, fakes.pod_config(name)) for name in ("a", "b", "c")]
    inside = await fakes.create(front, pods[1])

    async def listed(**given: object) -> list[str]:
        request = cri.ListPodSandboxRequest(filter=cri.PodSandboxFilter(**given))  # type: ignore[arg-type]
        return [one.id for one in (await runtime.ListPodSandbox(request)).items]

    assert await listed() == pods
    assert await listed(id=pods[2][:12]) == [pods[2]]
    assert await listed(label_selector={"app": "b"}) == [pods[1]]
    assert await listed(label_selector={"app": "b", "x": "y"}) == []
    assert await listed(state=cri.PodSandboxStateValue(state=cri.SANDBOX_NOTREADY)) == []
    assert await listed(state=cri.PodSandboxStateValue(state=cri.SANDBOX_READY)) == pods
    for wanted, found in (
        (cri.ContainerFilter(pod_sandbox_id=pods[1]), [inside]),
        (cri.ContainerFilter(pod_sandbox_id=pods[0]), []),
        (cri.ContainerFilter(state=cri.ContainerStateValue(state=cri.CONTAINER_CREATED)), [inside]),
        (cri.ContainerFilter(state=cri.ContainerStateValue(state=cri.CONTAINER_RUNNING)), []),
        (cri.ContainerFilter(id=inside, label_selector={"name": "main"}), [inside]),
    ):
        reply = await runtime.ListContainers(cri.ListContainersRequest(filter=wanted))
        assert [one.id for one in reply.containers] == found
        parts = runtime.StreamContainers(cri.StreamContainersRequest(filter=wanted))
        assert [one.id async for part in parts for one in part.containers] == found
    parts = runtime.StreamPodSandboxes(cri.StreamPodSandboxesRequest())
    assert [one.id async for part in parts for one in part.pod_sandboxes] == pods


async def test_a_large_list_fits(front: Front, runtime: rpc.RuntimeServiceAsyncStub) -> None:
    config = fakes.pod_config()
    config.annotations["large"] = "x" * (1 << 19)
    for attempt in range(12):
        config.metadata.attempt = attempt
        await fakes.run(front, config)
    assert len((await runtime.ListPodSandbox(cri.ListPodSandboxRequest())).items) == 12
