from __future__ import annotations

import pytest

from kernel.config.sections import Handler
from kernel.contracts.oci import ImageConfig
from kernel.contracts.runtime import CreateRequest, PodRequest, Resources
from kernel.errors import InvalidInput
from kernel.ids import ContainerId, SandboxId
from services.runtime.spec import handler_rules

POD = PodRequest(
    sandbox_id=SandboxId("a" * 64), name="p", namespace="n", uid="u", annotations={"run.oci/x": "pod", "other/y": "1"}
)


def request(memory: int = 0, **annotations: str) -> CreateRequest:
    return CreateRequest(
        container_id=ContainerId("c" * 64), sandbox_id=POD.sandbox_id, name="box", attempt=0, image=ImageConfig(),
        image_name="i", image_ref="i", resources=Resources(memory_limit_in_bytes=memory), annotations=annotations,
    )  # fmt: skip


def test_no_annotation_of_a_request_passes_by_default() -> None:
    assert handler_rules.merge({"mine": "1"}, POD, request(), Handler(path="/r")) == {"mine": "1"}


def test_allowed_ones_pass_by_prefix_and_replace_the_defaults_but_not_crisps_own() -> None:
    given = Handler(
        path="/r", allowed_annotations=("run.oci/", "io.container."),
        default_annotations={"run.oci/x": "default", "run.oci/z": "default"},
    )  # fmt: skip
    made = request(**{"run.oci/w": "container", "io.container.manager": "evil"})
    assert handler_rules.merge({"io.container.manager": "crisp"}, POD, made, given) == {
        "run.oci/x": "pod", "run.oci/z": "default", "run.oci/w": "container", "io.container.manager": "crisp",
    }  # fmt: skip


def test_a_limit_in_which_nothing_starts_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match=r"memory_limit_in_bytes: 1048576 .* 'runc' needs, 12582912"):
        handler_rules.check(request(1 << 20), "runc", Handler(path="/usr/sbin/runc"))
    handler_rules.check(request(1 << 20), "crun", Handler(path="/usr/bin/crun"))
    handler_rules.check(request(1 << 20), "runc", Handler(path="/usr/sbin/runc", min_memory=1000))
