"""Records as the CRI shows them."""

from __future__ import annotations

from msgspec.structs import replace

from kernel.contracts.records import Container, ContainerState, SandboxState
from kernel.cri.generated import cri_pb2 as cri
from kernel.front.responses import views
from kernel.ids import ImageId
from tests.harness.fakes.pod_workers import container_config, pod_config
from tests.unit.kernel.front.memory.test_replica import ONE, POD


def container() -> Container:
    config = container_config()
    config.mounts.add(container_path="/data", host_path="/srv")
    config.linux.resources.cpu_shares = 512
    return replace(
        ONE, config=config.SerializeToString(), uid=1000, gid=10, supplemental_groups=(10, 20), stop_signal="SIGQUIT",
        log_path="/var/log/pods/x/main/0.log",
    )  # fmt: skip


def test_a_container_s_status_has_every_field() -> None:
    status = views.container_status(container())
    assert (status.user.linux.uid, list(status.user.linux.supplemental_groups)) == (1000, [10, 20])
    assert status.stop_signal == cri.SIGNAL_SIGQUIT
    assert status.mounts[0].host_path == "/srv"
    assert status.resources.linux.cpu_shares == 512
    assert (status.image.image, status.image_ref, status.image_id) == ("busybox", "ref", ONE.image_id)
    assert status.log_path == "/var/log/pods/x/main/0.log"


def test_a_pod_that_is_not_ready_has_no_address() -> None:
    config = pod_config()
    config.linux.security_context.namespace_options.pid = cri.CONTAINER
    pod = replace(POD, config=config.SerializeToString(), ips=("10.0.0.1", "fd00::1"))
    status = views.pod_status(pod)
    assert status.network.ip == "10.0.0.1"
    assert status.linux.namespaces.options.pid == cri.CONTAINER
    assert not views.pod_status(replace(pod, state=SandboxState.NOT_READY)).network.ip


def test_every_state_is_shown() -> None:
    assert set(views.SANDBOX_STATES) == set(SandboxState)
    assert set(views.CONTAINER_STATES) == set(ContainerState)


def test_the_status_names_each_image_volume_s_image() -> None:
    config = container_config()
    config.mounts.add(container_path="/x", host_path="/h")
    for name in ("a", "b"):
        config.mounts.add(container_path="/v", readonly=True, image=cri.ImageSpec(image=name))
    record = replace(ONE, config=config.SerializeToString(), volume_images=(ImageId("sha256:1"), ImageId("sha256:2")))
    shown = views.container_status(record).mounts
    assert [mount.image.image_ref for mount in shown] == ["", "sha256:1", "sha256:2"]
    assert [mount.image.image for mount in shown] == ["", "a", "b"]
    assert views.container_config(record) == config  # the request itself stays as it came
