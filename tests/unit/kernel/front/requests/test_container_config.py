"""Container requests: what is translated, and which field a refusal names."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kernel.contracts.oci import ImageConfig
from kernel.contracts.runtime import CreateRequest, Propagation
from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import InvalidInput
from kernel.front.requests.container_config import log_path, plan_container
from kernel.ids import ContainerId, SandboxId
from tests.harness.fakes.pod_workers import container_config, pod_config

Change = Callable[[cri.ContainerConfig], object]


def plan(
    config: cri.ContainerConfig, pod: cri.PodSandboxConfig | None = None, image: ImageConfig | None = None
) -> CreateRequest:
    return plan_container(
        ContainerId("c" * 64),
        SandboxId("a" * 64),
        config,
        pod or pod_config(),
        image=image or ImageConfig(cmd=("sh",)),
        image_ref="ref",
    )


def test_a_whole_container_is_translated() -> None:
    config = container_config()
    config.command.append("sleep")
    config.args.append("1\n2")
    config.envs.add(key="A", value="ü".encode())
    config.mounts.add(
        container_path="/data", host_path="/srv", readonly=True, propagation=cri.PROPAGATION_HOST_TO_CONTAINER
    )
    config.devices.add(container_path="/dev/x", host_path="/dev/null", permissions="rw")
    context = config.linux.security_context
    context.capabilities.add_capabilities.extend(["NET_ADMIN", "CAP_SYS_TIME", "sys_nice"])
    context.capabilities.drop_capabilities.append("ALL")
    context.run_as_user.value = 1000
    context.run_as_group.value = 0
    context.supplemental_groups.append(7)
    context.supplemental_groups_policy = cri.Strict
    context.masked_paths.append("/proc/kcore")
    config.linux.resources.memory_limit_in_bytes = 1 << 30
    config.linux.resources.hugepage_limits.add(page_size="2MB", limit=4)
    config.stop_signal = cri.SIGNAL_SIGUSR1
    found = plan(config)
    assert (found.command, found.args, found.envs) == (("sleep",), ("1\n2",), (("A", "ü"),))
    assert found.mounts[0].propagation is Propagation.HOST_TO_CONTAINER
    assert found.security.add_capabilities == ("NET_ADMIN", "SYS_TIME", "SYS_NICE")
    assert found.security.drop_capabilities == ("ALL",)
    assert (found.security.run_as_user, found.security.run_as_group) == (1000, 0)
    assert found.security.supplemental_groups_policy == "strict"
    assert found.security.masked_paths == ("/proc/kcore",)
    assert found.security.readonly_paths == ()
    assert found.resources.hugepage_limits == {"2MB": 4}
    assert (found.log_path, found.stop_signal) == ("main/0.log", "SIGUSR1")


def test_no_log_without_a_folder_for_it() -> None:
    pod = pod_config()
    assert log_path(container_config(), pod)[1] == "/var/log/pods/x/main/0.log"
    pod.log_directory = ""
    assert log_path(container_config(), pod) == ("", "")


def mount(**fields: object) -> Change:
    return lambda config: config.mounts.append(
        cri.Mount(**{"container_path": "/x", "host_path": "/y", **fields})  # type: ignore[arg-type]
    )


FAULTS: list[tuple[str, Change]] = [
    ("config.metadata:", lambda c: c.ClearField("metadata")),
    ("config.metadata.name", lambda c: setattr(c.metadata, "name", "")),
    ("config.image.image", lambda c: c.ClearField("image")),
    ("config.log_path", lambda c: setattr(c, "log_path", "../x")),
    ("config.log_path", lambda c: setattr(c, "log_path", "/etc/cron.d/x")),
    ("config.log_path", lambda c: setattr(c, "log_path", "x" * 5000)),
    ("config.working_dir", lambda c: setattr(c, "working_dir", "relative")),
    ("config.command[0]", lambda c: c.command.append("a\0b")),
    ("config.args", lambda c: c.args.append("x" * (2 << 20 | 1))),
    ("config.envs[0].key", lambda c: c.envs.add(key="A=B")),
    ("config.envs[0].key", lambda c: c.envs.add(key="")),
    ("config.envs[0].value", lambda c: c.envs.add(key="A", value=b"\xff")),
    ("config.envs[0].value", lambda c: c.envs.add(key="HOME", value=b"/\nroot::0:0")),
    ("config.mounts[0].container_path", mount(container_path="relative")),
    ("config.mounts[0].container_path", mount(container_path="/")),
    ("config.mounts[0].container_path", mount(container_path="/dev/../etc")),
    ("config.mounts[0].host_path", mount(host_path="")),
    ("config.mounts[0].host_path", mount(host_path="relative")),
    ("config.mounts[0].propagation", mount(propagation=9)),
    ("config.mounts[0].recursive_read_only", mount(recursive_read_only=True)),
    ("config.devices[0].host_path", lambda c: c.devices.add(
        container_path="/dev/x", host_path="/dev/../etc/shadow", permissions="r")),
    ("config.devices[0].permissions", lambda c: c.devices.add(
        container_path="/dev/x", host_path="/dev/x", permissions="rwmx")),
    ("config.stop_signal", lambda c: setattr(c, "stop_signal", 99)),
]  # fmt: skip


@pytest.mark.parametrize(("field", "change"), FAULTS, ids=[f"{i} {field}" for i, (field, _) in enumerate(FAULTS)])
def test_a_fault_names_its_field(field: str, change: Change) -> None:
    config = container_config()
    change(config)
    with pytest.raises(InvalidInput) as caught:
        plan(config)
    assert field in caught.value.message


def test_no_command_anywhere_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"config\.command"):
        plan(container_config(), image=ImageConfig())
