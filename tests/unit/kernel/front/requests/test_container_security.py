"""A container's security context: what is translated, and which field a refusal names."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kernel.contracts.runtime import Security
from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import InvalidInput, Unimplemented
from kernel.front.requests import container_security
from tests.harness.fakes.pod_workers import container_config, pod_config


def plan(config: cri.ContainerConfig) -> Security:
    return container_security.plan(config, pod_config())


def test_paths_that_a_request_leaves_out_are_the_default_ones_and_an_empty_list_is_none_at_all() -> None:
    config = container_config()
    config.linux.ClearField("security_context")
    assert plan(config).masked_paths is None
    config.linux.security_context.SetInParent()
    security = plan(config)
    assert (security.masked_paths, security.readonly_paths) == ((), ())


FAULTS: list[tuple[str, Callable[[cri.LinuxContainerSecurityContext], object]]] = [
    ("add_capabilities[0]", lambda s: s.capabilities.add_capabilities.append("CAP_FOO")),
    ("run_as_username", lambda s: setattr(s, "run_as_username", "a:0:0\nb")),
    ("masked_paths[0]", lambda s: s.masked_paths.append("/proc/../etc")),
    ("container id", lambda s: s.namespace_options.MergeFrom(cri.NamespaceOption(pid=cri.TARGET))),
]


@pytest.mark.parametrize(("field", "change"), FAULTS, ids=[f"{i} {field}" for i, (field, _) in enumerate(FAULTS)])
def test_a_fault_names_its_field(field: str, change: Callable[[cri.LinuxContainerSecurityContext], object]) -> None:
    config = container_config()
    change(config.linux.security_context)
    with pytest.raises(InvalidInput) as caught:
        plan(config)
    assert field in caught.value.message


def test_what_is_not_served_is_not_promised() -> None:
    config = container_config()
    config.linux.security_context.capabilities.add_ambient_capabilities.append("CHOWN")
    with pytest.raises(Unimplemented, match="add_ambient_capabilities"):
        plan(config)
