"""Pods from their run to their removal, which leaves nothing."""

from __future__ import annotations

import pytest

from kernel.contracts.records import ContainerState, SandboxState
from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import NotFound
from kernel.front.context import Front
from kernel.front.node import queries
from tests.harness.fakes import pod_workers as fakes


async def test_a_pod_from_run_to_gone(front: Front, host: fakes.Host) -> None:
    pod = await fakes.run(front)
    status = (await queries.pod_sandbox_status(
        front, cri.PodSandboxStatusRequest(pod_sandbox_id=pod[:13]), fakes.a_call())).status  # fmt: skip
    assert (status.state, status.network.ip) == (cri.SANDBOX_READY, "10.88.0.2")
    assert [one.ip for one in status.network.additional_ips] == ["fd00::2"]
    container = await fakes.create(front, pod)
    await fakes.start(front, container)
    assert front.replica.container(container).state is ContainerState.RUNNING
    await fakes.stop_pod(front, pod)
    assert front.replica.container(container).exit_code == 137
    assert front.replica.sandbox(pod).state is SandboxState.NOT_READY
    assert host.netns == set()
    await fakes.remove_pod(front, pod)
    assert host.empty()
    await fakes.remove_pod(front, pod)
    await fakes.stop_pod(front, pod)


async def test_a_host_network_pod_has_no_network_of_its_own(front: Front, host: fakes.Host) -> None:
    pod = await fakes.run(front, fakes.pod_config(host_network=True))
    assert "attach" not in host.calls
    await fakes.stop_pod(front, pod)
    await fakes.remove_pod(front, pod)
    assert "detach" not in host.calls
    assert host.empty()


async def test_what_a_worker_misses_during_a_removal_is_no_success(front: Front, host: fakes.Host, pod: str) -> None:
    host.fail["remove_pod"] = [NotFound("its folder is not there")]
    with pytest.raises(NotFound, match="folder"):
        await fakes.remove_pod(front, pod)
    await fakes.remove_pod(front, pod)
    assert host.empty()
