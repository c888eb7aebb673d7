from __future__ import annotations

import pytest

from kernel.contracts.oci import ImageConfig
from kernel.contracts.runtime import CreateRequest, PodRequest
from kernel.errors import FailedPrecondition, InvalidInput
from kernel.ids import ContainerId, SandboxId
from services.runtime.node import resource_class
from services.runtime.node.resource_class import Requested

OWN, FOR_ONE, FOR_ALL = (
    "io.kubernetes.cri.blockio-class", "blockio.resources.beta.kubernetes.io/container.box",
    "blockio.resources.beta.kubernetes.io/pod",
)  # fmt: skip


def asked(of_container: dict[str, str], of_pod: dict[str, str]) -> Requested | None:
    pod = PodRequest(sandbox_id=SandboxId("a" * 64), name="p", namespace="n", uid="u", annotations=of_pod)
    request = CreateRequest(
        container_id=ContainerId("c" * 64), sandbox_id=pod.sandbox_id, name="box", attempt=0, image=ImageConfig(),
        image_name="i", image_ref="i", annotations=of_container,
    )  # fmt: skip
    return resource_class.requested("blockio", pod, request)


def test_the_nearest_annotation_counts() -> None:
    everywhere = {FOR_ONE: "one", FOR_ALL: "all"}
    assert asked({OWN: "own"}, everywhere) == Requested(name="own", field=f"config.annotations[{OWN}]")
    assert asked({}, everywhere) == Requested(name="one", field=f"sandbox_config.annotations[{FOR_ONE}]")
    assert asked({}, {FOR_ALL: "all", FOR_ONE.replace("box", "other"): "x"}) == Requested(
        name="all", field=f"sandbox_config.annotations[{FOR_ALL}]"
    )
    assert asked({OWN: ""}, everywhere) is None
    assert asked({FOR_ALL: "x"}, {OWN: "x"}) is None


def test_rdt_classes_are_groups_of_resctrl() -> None:
    wanted = Requested(name="gold", field="config.annotations[k]")
    assert resource_class.rdt(wanted, ["gold", "info"]) == {"closID": "gold"}
    with pytest.raises(FailedPrecondition, match=r"config.annotations\[k\]: this host has no resctrl"):
        resource_class.rdt(wanted, None)
    for name in ("silver", "info", "../x", "mon_groups", ""):
        with pytest.raises(InvalidInput, match="is unknown; there are gold"):
            resource_class.rdt(Requested(name=name, field="f"), ["gold", "info", "mon_groups"])
