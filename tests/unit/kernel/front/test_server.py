"""The real gRPC server on a socket, before fake workers: registration, errors, limits, lists."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import grpc
import pytest

from kernel.errors import Internal
from kernel.front import server, services
from kernel.front.context import Call, Front
from kernel.front.generated import cri_pb2 as cri
from kernel.front.generated import cri_pb2_grpc as rpc
from kernel.front.generated import node_pb2
from kernel.front.replica import Replica
from tests.unit.kernel.front import pod_workers as fakes
from tests.unit.kernel.front.test_sandboxes import create, front, host, run

__all__ = ["front", "host"]

_LIMITS = [("grpc.max_receive_message_length", 80 << 20), ("grpc.max_send_message_length", 80 << 20)]


@pytest.fixture
async def channel(front: Front, tmp_path: Path) -> AsyncIterator[grpc.aio.Channel]:
    serving = await server.serve(front, tmp_path / "crisp.sock")
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/crisp.sock", options=_LIMITS) as made:
        yield made
    await serving.stop(None)


@pytest.fixture
def runtime(channel: grpc.aio.Channel) -> rpc.RuntimeServiceAsyncStub:
    return rpc.RuntimeServiceStub(channel)


async def refused(call: Awaitable[object]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def read(call: grpc.aio.UnaryStreamCall[object, object]) -> list[object]:
    return [part async for part in call]


def test_the_interface_has_all_its_rpcs() -> None:
    methods = {
        f"/{descriptor.full_name}/{method.name}"
        for descriptor, _ in services.SERVICES
        if descriptor.full_name.startswith("runtime.v1.")
        for method in descriptor.methods
    }
    assert len(methods) == 43
    assert "/runtime.v1.RuntimeService/RunPodSandbox" in methods
    assert "/runtime.v1.ImageService/PullImage" in methods
    assert node_pb2.DESCRIPTOR.package == "crisp.v1"


async def test_every_rpc_answers_and_the_unserved_ones_by_name(channel: grpc.aio.Channel) -> None:
    for descriptor, served in services.SERVICES[:2]:
        for method in descriptor.methods:
            if method.name in served:
                continue
            name = f"/{descriptor.full_name}/{method.name}"
            if method.server_streaming:
                error = await refused(read(channel.unary_stream(name)(b"", timeout=5)))
            else:
                error = await refused(channel.unary_unary(name)(b"", timeout=5))
            assert error.code() is grpc.StatusCode.UNIMPLEMENTED
            assert method.name in (error.details() or "")


async def test_a_pod_over_the_socket(front: Front, runtime: rpc.RuntimeServiceAsyncStub) -> None:
    pod = (await runtime.RunPodSandbox(cri.RunPodSandboxRequest(config=fakes.pod_config()))).pod_sandbox_id
    listed = (await runtime.ListPodSandbox(cri.ListPodSandboxRequest())).items
    assert [(one.id, one.annotations["note"]) for one in listed] == [(pod, "a\nb")]
    made = await runtime.CreateContainer(
        cri.CreateContainerRequest(pod_sandbox_id=pod, config=fakes.container_config())
    )
    await runtime.StartContainer(cri.StartContainerRequest(container_id=made.container_id))
    (shown,) = (await runtime.ListContainers(cri.ListContainersRequest())).containers
    assert (shown.state, shown.pod_sandbox_id, shown.image.image) == (cri.CONTAINER_RUNNING, pod, "busybox")
    await runtime.RemovePodSandbox(cri.RemovePodSandboxRequest(pod_sandbox_id=pod))
    assert not (await runtime.ListPodSandbox(cri.ListPodSandboxRequest())).items


async def test_an_error_says_what_and_what_to_do(runtime: rpc.RuntimeServiceAsyncStub) -> None:
    error = await refused(
        runtime.RunPodSandbox(cri.RunPodSandboxRequest(config=fakes.pod_config(), runtime_handler="kata"))
    )
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == "runtime_handler: 'kata' is not configured; there are crun, runc"
    error = await refused(runtime.ContainerStatus(cri.ContainerStatusRequest(container_id="f" * 64)))
    assert error.code() is grpc.StatusCode.NOT_FOUND


async def test_our_own_bug_is_internal_and_logged(
    runtime: rpc.RuntimeServiceAsyncStub,
    front: Front,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(_: Replica, text: str) -> None:
        raise ZeroDivisionError(text)

    monkeypatch.setattr(Replica, "sandbox", broken)
    error = await refused(runtime.PodSandboxStatus(cri.PodSandboxStatusRequest(pod_sandbox_id="x")))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "ZeroDivisionError" in (error.details() or "")
    assert "Traceback" in caplog.text


async def test_a_deadline_that_passes(host: fakes.Host, front: Front, runtime: rpc.RuntimeServiceAsyncStub) -> None:
    host.hold["attach"] = asyncio.Event()
    request = cri.RunPodSandboxRequest(config=fakes.pod_config())
    error = await refused(runtime.RunPodSandbox(request, timeout=0.2))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    host.hold["attach"].set()
    assert (await runtime.RunPodSandbox(request, timeout=5)).pod_sandbox_id in host.pods
    assert host.count("make_pod") == 1


async def test_lists_are_filtered_and_streamed(front: Front, runtime: rpc.RuntimeServiceAsyncStub) -> None:
    pods = [await run(front, fakes.pod_config(name)) for name in ("a", "b", "c")]
    inside = await create(front, pods[1])

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


async def test_status_says_what_is_wrong(front: Front, runtime: rpc.RuntimeServiceAsyncStub) -> None:
    async def conditions() -> dict[str, tuple[bool, str]]:
        reply = await runtime.Status(cri.StatusRequest(verbose=True))
        assert "config" in reply.info
        return {one.type: (one.status, one.reason) for one in reply.status.conditions}

    config = await runtime.RuntimeConfig(cri.RuntimeConfigRequest())
    assert config.linux.cgroup_driver == cri.CGROUPFS
    assert await conditions() == {"RuntimeReady": (True, ""), "NetworkReady": (False, "NetworkNotAsked")}
    front.replica.down = {"runtime": "held down after 5 deaths", "network": "starting"}
    assert await conditions() == {"RuntimeReady": (False, "WorkerDown"), "NetworkReady": (False, "WorkerDown")}
    reply = await runtime.Status(cri.StatusRequest())
    assert [one.name for one in reply.runtime_handlers] == ["", "runc"]
    assert reply.features.supplemental_groups_policy
    version = await runtime.Version(cri.VersionRequest(version="0.1.0"))
    assert (version.runtime_name, version.runtime_api_version, version.version) == ("crisp", "v1", "0.1.0")


async def test_a_large_list_fits(front: Front, runtime: rpc.RuntimeServiceAsyncStub) -> None:
    config = fakes.pod_config()
    config.annotations["large"] = "x" * (1 << 19)
    for attempt in range(12):
        config.metadata.attempt = attempt
        await run(front, config)
    assert len((await runtime.ListPodSandbox(cri.ListPodSandboxRequest())).items) == 12


async def test_a_socket_that_cannot_be_bound_is_named(front: Front, tmp_path: Path) -> None:
    with pytest.raises(Internal, match=r"none/crisp\.sock"):
        await server.serve(front, tmp_path / "none" / "crisp.sock")


def test_an_rpc_that_the_interface_has_not_is_refused(front: Front) -> None:
    async def spine(front: Front, request: cri.VersionRequest, call: Call) -> cri.VersionResponse:
        raise AssertionError

    with pytest.raises(Internal, match="Versoin"):
        server.handlers(front, services.SERVICES[0][0], {"Versoin": spine})
