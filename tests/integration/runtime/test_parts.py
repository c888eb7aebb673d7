"""The parts of a pod on the host: what is left half-made is removed, whatever of it is there."""

from __future__ import annotations

from pathlib import Path

from kernel.contracts.runtime import PodRequest, SandboxRequest
from kernel.ids import SandboxId, new_id
from services.runtime.pods import parts
from services.runtime.pods.pod_state import Pod
from services.runtime.records.bundle import PodBundle, PodRecord
from tests.integration.runtime.conftest import Node


async def test_a_half_made_pod_is_listed_and_removed(node: Node) -> None:
    request = PodRequest(sandbox_id=SandboxId(new_id()), name="p", namespace="n", uid="u")
    folder = PodBundle(node.config.paths.runtime_state, request.sandbox_id)
    parts.note(Pod(PodRecord(request=request, cgroup="/none"), folder))
    await node.restart()
    assert (await node.facts()).pods == ()
    assert request.sandbox_id in (await node.service.inventory(None, node.call())).pods  # type: ignore[arg-type]
    await node.service.remove_pod(SandboxRequest(sandbox_id=request.sandbox_id), node.call())
    assert not folder.path.exists()


async def test_files_and_modes_of_a_pod(node: Node) -> None:
    sandbox = await node.pod(dns_servers=("10.0.0.1",))
    folder = PodBundle(node.config.paths.runtime_state, sandbox)
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert (folder.hostname.stat().st_mode & 0o777, folder.resolv_conf.stat().st_mode & 0o777) == (0o644, 0o644)
    assert folder.resolv_conf.read_text() == "nameserver 10.0.0.1\n"
    assert Path(folder.shm).is_mount()
