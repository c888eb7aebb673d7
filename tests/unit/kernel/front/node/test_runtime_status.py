"""Version, Status and RuntimeConfig, over the socket."""

from __future__ import annotations

from kernel.cri.generated import cri_pb2 as cri
from kernel.cri.generated import cri_pb2_grpc as rpc
from kernel.front.context import Front


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
