"""Every RPC of the interface is registered."""

from __future__ import annotations

import grpc

from kernel.cri.generated import node_pb2
from kernel.front import rpcs
from tests.harness.fakes import pod_workers as fakes


def test_the_interface_has_all_its_rpcs() -> None:
    methods = {
        f"/{descriptor.full_name}/{method.name}"
        for descriptor, _ in rpcs.SERVICES
        if descriptor.full_name.startswith("runtime.v1.")
        for method in descriptor.methods
    }
    assert len(methods) == 43
    assert "/runtime.v1.RuntimeService/RunPodSandbox" in methods
    assert "/runtime.v1.ImageService/PullImage" in methods
    assert node_pb2.DESCRIPTOR.package == "crisp.v1"


async def test_every_rpc_answers_and_the_unserved_ones_by_name(channel: grpc.aio.Channel) -> None:
    for descriptor, served in rpcs.SERVICES[:2]:
        for method in descriptor.methods:
            if method.name in served:
                continue
            name = f"/{descriptor.full_name}/{method.name}"
            if method.server_streaming:
                error = await fakes.refused(fakes.read(channel.unary_stream(name)(b"", timeout=5)))
            else:
                error = await fakes.refused(channel.unary_unary(name)(b"", timeout=5))
            assert error.code() is grpc.StatusCode.UNIMPLEMENTED
            assert method.name in (error.details() or "")
