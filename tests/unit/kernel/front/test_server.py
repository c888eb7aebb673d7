"""The real gRPC server on a socket, before fake workers: registration, errors, limits, lists."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest

from kernel.cri.generated import cri_pb2 as cri
from kernel.cri.generated import cri_pb2_grpc as rpc
from kernel.errors import Internal
from kernel.front import rpcs, server
from kernel.front.context import Call, Front
from kernel.front.memory.replica import Replica
from tests.harness.fakes import pod_workers as fakes

_LIMITS = [("grpc.max_receive_message_length", 80 << 20), ("grpc.max_send_message_length", 80 << 20)]


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
    error = await fakes.refused(
        runtime.RunPodSandbox(cri.RunPodSandboxRequest(config=fakes.pod_config(), runtime_handler="kata"))
    )
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == "runtime_handler: 'kata' is not configured; there are crun, runc"
    error = await fakes.refused(runtime.ContainerStatus(cri.ContainerStatusRequest(container_id="f" * 64)))
    assert error.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("body", [b"\x0a\xff", b"\x0a\x04\x12\x02\xff\xfe", b"\x0b" * 10_000])
@pytest.mark.parametrize("rpc_name", ["RunPodSandbox", "StreamContainers"])
async def test_bytes_that_are_no_request(
    front: Front, runtime: rpc.RuntimeServiceAsyncStub, tmp_path: Path, rpc_name: str, body: bytes
) -> None:
    serving = await server.serve(front, tmp_path / "raw.sock")
    try:
        async with grpc.aio.insecure_channel(f"unix:{tmp_path}/raw.sock") as channel:
            path = f"/runtime.v1.RuntimeService/{rpc_name}"
            asked = (channel.unary_stream if rpc_name.startswith("Stream") else channel.unary_unary)(path)
            call = asked(body, timeout=5)
            code, details = await call.code(), await call.details()
    finally:
        await serving.stop(0)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "request: " in (details or "")


async def test_our_own_bug_is_internal_and_logged(
    runtime: rpc.RuntimeServiceAsyncStub,
    front: Front,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(_: Replica, text: str) -> None:
        raise ZeroDivisionError(text)

    monkeypatch.setattr(Replica, "sandbox", broken)
    error = await fakes.refused(runtime.PodSandboxStatus(cri.PodSandboxStatusRequest(pod_sandbox_id="x")))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "ZeroDivisionError" in (error.details() or "")
    assert "Traceback" in caplog.text


async def test_a_deadline_that_passes(host: fakes.Host, front: Front, runtime: rpc.RuntimeServiceAsyncStub) -> None:
    host.hold["attach"] = asyncio.Event()
    request = cri.RunPodSandboxRequest(config=fakes.pod_config())
    error = await fakes.refused(runtime.RunPodSandbox(request, timeout=0.2))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    host.hold["attach"].set()
    assert (await runtime.RunPodSandbox(request, timeout=5)).pod_sandbox_id in host.pods
    assert host.count("make_pod") == 1


async def test_a_socket_that_cannot_be_bound_is_named(front: Front, tmp_path: Path) -> None:
    with pytest.raises(Internal, match=r"none/crisp\.sock"):
        await server.serve(front, tmp_path / "none" / "crisp.sock")


def test_an_rpc_that_the_interface_has_not_is_refused(front: Front) -> None:
    async def spine(front: Front, request: cri.VersionRequest, call: Call) -> cri.VersionResponse:
        raise AssertionError

    with pytest.raises(Internal, match="Versoin"):
        server.handlers(front, rpcs.SERVICES[0][0], {"Versoin": spine})
