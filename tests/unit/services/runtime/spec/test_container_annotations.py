"""Which annotations a container's OCI specification has."""

from __future__ import annotations

import msgspec

from kernel.contracts.runtime import CreateRequest, PodRequest, Resources
from services.runtime.spec import container_annotations
from tests.unit.services.runtime.spec.samples import POD, REQUEST, change, plan


def annotations(request: CreateRequest = REQUEST, pod: PodRequest = POD) -> dict[str, str]:
    made = container_annotations.plan(pod, request)
    assert plan(request, pod)["annotations"] == made
    return made


def test_annotations_that_could_switch_the_runtime_are_left_out() -> None:
    given = {"run.oci.handler": "krun", "org.systemd.property.X": "'y'", "io.kubernetes.container.hash": "1",
             "io.kubernetes.cri.sandbox-id": "forged", "io.kubernetes.cri-o.Spoofed": "1"}  # fmt: skip
    found = annotations(change(annotations=given))
    assert found["io.kubernetes.container.hash"] == "1"
    assert found["io.kubernetes.cri.sandbox-id"] == POD.sandbox_id
    assert not {"run.oci.handler", "org.systemd.property.X", "io.kubernetes.cri-o.Spoofed"} & set(found)


def test_the_oci_runtime_is_told_the_size_of_the_pod() -> None:
    assert not [key for key in annotations() if "sandbox-memory" in key or "pod-linux" in key]
    pod = msgspec.structs.replace(
        POD, resources=Resources(cpu_shares=7, memory_limit_in_bytes=9, hugepage_limits={"2MB": 1}),
        overhead=Resources(cpu_quota=5),
    )  # fmt: skip
    said = annotations(pod=pod)
    assert said["io.kubernetes.cri.sandbox-memory"] == "9"
    assert said["io.kubernetes.cri.sandbox-cpu-shares"] == "7"
    assert said["pod-linux-overhead.crio.io"] == '{"cpu_quota":5}'
    assert msgspec.json.decode(said["pod-linux-resources.crio.io"]) == {
        "cpu_shares": 7, "memory_limit_in_bytes": 9, "hugepage_limits": [{"page_size": "2MB", "limit": 1}],
    }  # fmt: skip
