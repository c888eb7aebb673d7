"""Container requests: what is translated, and which field a refusal names."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kernel.contracts.oci import ImageConfig
from kernel.contracts.runtime import CreateRequest, NamespaceMode, Propagation
from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import InvalidInput, Unimplemented
from kernel.front.requests.container_config import log_path, plan_container, signal_name, signal_number
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


def test_paths_that_a_request_leaves_out_are_the_default_ones_and_an_empty_list_is_none_at_all() -> None:
    config = container_config()
    config.linux.ClearField("security_context")
    assert plan(config).security.masked_paths is None
    config.linux.security_context.SetInParent()
    security = plan(config).security
    assert (security.masked_paths, security.readonly_paths) == ((), ())


def test_no_log_without_a_folder_for_it() -> None:
    pod = pod_config()
    assert log_path(container_config(), pod)[1] == "/var/log/pods/x/main/0.log"
    pod.log_directory = ""
    assert log_path(container_config(), pod) == ("", "")


@pytest.mark.parametrize(
    ("of_pod", "asked", "becomes"),
    [
        (cri.POD, cri.POD, NamespaceMode.POD),
        (cri.POD, cri.CONTAINER, NamespaceMode.CONTAINER),
        (cri.CONTAINER, cri.POD, NamespaceMode.CONTAINER),
        (cri.NODE, cri.POD, NamespaceMode.NODE),
        (cri.POD, cri.NODE, NamespaceMode.NODE),
    ],
)
def test_a_pid_namespace_that_the_pod_has_not_is_not_shared(
    of_pod: cri.NamespaceMode, asked: cri.NamespaceMode, becomes: NamespaceMode
) -> None:
    pod, config = pod_config(), container_config()
    pod.linux.security_context.namespace_options.pid = of_pod
    config.linux.security_context.namespace_options.pid = asked
    assert plan(config, pod).security.pid is becomes


def test_every_signal_has_a_name_and_its_name_is_known() -> None:
    for number in cri.Signal.values():
        name = signal_name(number)
        assert signal_number(name) == number
    assert signal_name(cri.SIGNAL_SIGRTMINPLUS3) == "SIGRTMIN+3"
    assert signal_number("QUIT") == cri.SIGNAL_SIGQUIT
    assert signal_number("SIGNONE") == cri.SIGNAL_RUNTIME_DEFAULT


def mount(**fields: object) -> Change:
    return lambda config: config.mounts.append(
        cri.Mount(**{"container_path": "/x", "host_path": "/y", **fields})  # type: ignore[arg-type]
    )


def security(change: Callable[[cri.LinuxContainerSecurityContext], object]) -> Change:
    return lambda config: change(config.linux.security_context)


def limit(name: str, value: object) -> Change:
    return lambda config: setattr(config.linux.resources, name, value)


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
    ("add_capabilities[0]", security(lambda s: s.capabilities.add_capabilities.append("CAP_FOO"))),
    ("run_as_user", security(lambda s: s.run_as_user.MergeFrom(cri.Int64Value(value=-1)))),
    ("run_as_user", security(lambda s: s.run_as_user.MergeFrom(cri.Int64Value(value=1 << 31)))),
    ("run_as_group", security(lambda s: s.run_as_group.MergeFrom(cri.Int64Value(value=5)))),
    ("supplemental_groups", security(lambda s: s.supplemental_groups.extend(range(65537)))),
    ("run_as_username", security(lambda s: setattr(s, "run_as_username", "a:0:0\nb"))),
    ("masked_paths[0]", security(lambda s: s.masked_paths.append("/proc/../etc"))),
    ("container id", security(lambda s: s.namespace_options.MergeFrom(cri.NamespaceOption(pid=cri.TARGET)))),
    ("memory_limit_in_bytes", limit("memory_limit_in_bytes", -1)),
    ("cpu_period", limit("cpu_period", -1)),
    ("oom_score_adj", limit("oom_score_adj", -2000)),
    ("cpuset_cpus", limit("cpuset_cpus", "0-99999999")),
    ("unified", lambda c: c.linux.resources.unified.update({"../cgroup.procs": "1"})),
    ("unified", lambda c: c.linux.resources.unified.update({"cgroup.freeze": "1"})),
    ("unified", lambda c: c.linux.resources.unified.update({"memory.max": "1\n2"})),
    ("page_size", lambda c: c.linux.resources.hugepage_limits.add(page_size="../2MB")),
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


UNSERVED: list[tuple[str, Change]] = [
    ("add_ambient_capabilities", security(lambda s: s.capabilities.add_ambient_capabilities.append("CHOWN"))),
]


@pytest.mark.parametrize(("field", "change"), UNSERVED, ids=[field for field, _ in UNSERVED])
def test_what_is_not_served_is_not_promised(field: str, change: Change) -> None:
    config = container_config()
    change(config)
    with pytest.raises(Unimplemented, match=field):
        plan(config)
