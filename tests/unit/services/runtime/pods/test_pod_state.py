from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from kernel.contracts.oci import IdMap, IdRange
from kernel.contracts.runtime import NamespaceMode, PodRequest
from kernel.host.pidfd import Identity
from kernel.ids import SandboxId
from services.runtime.pods.pod_state import Pod
from services.runtime.records.bundle import PodBundle, PodRecord

SANDBOX = SandboxId("a" * 64)
MAPPED = (IdRange(container_id=0, host_id=100000, length=65536),)
NODE = NamespaceMode.NODE


def pod(root: Path, **fields: object) -> Pod:
    request = PodRequest(sandbox_id=SANDBOX, name="p", namespace="n", uid="u", **fields)  # type: ignore[arg-type]
    return Pod(PodRecord(request=request, cgroup="/crisp/x"), PodBundle(root, SANDBOX))


@pytest.mark.parametrize(
    ("fields", "pins"),
    [
        ({}, {"ipc", "uts"}),
        ({"ipc": NODE}, {"uts"}),
        ({"network": NODE}, {"ipc"}),
        ({"network": NODE, "ipc": NODE}, set()),
        ({"user_namespace": IdMap(uids=MAPPED, gids=MAPPED)}, {"ipc", "uts", "user", "net"}),
        ({"user_namespace": IdMap(uids=MAPPED, gids=MAPPED), "network": NODE}, {"ipc", "user"}),
    ],
)
def test_only_namespaces_of_its_own_are_pinned(tmp_path: Path, fields: dict[str, object], pins: set[str]) -> None:
    assert set(pod(tmp_path, **fields).pins) == pins


def test_it_is_ready_once_it_is_made_and_while_its_pause_process_lives(tmp_path: Path) -> None:
    found = pod(tmp_path, network=NODE, ipc=NODE)
    found.folder.path.mkdir(parents=True)
    assert not found.fact().ready
    found.change(replace(found.record, made=True))
    assert found.fact().ready
    found.change(replace(found.record, pause=Identity(pid=1, start=2, boot="b")))
    assert (found.fact().ready, found.pause_pid) == (False, 0)
    assert found.folder.record.read() == found.record


def test_a_namespace_that_is_no_longer_pinned_makes_it_unready(tmp_path: Path) -> None:
    found = pod(tmp_path)
    found.folder.path.mkdir(parents=True)
    found.change(replace(found.record, made=True))
    assert not found.fact().ready
