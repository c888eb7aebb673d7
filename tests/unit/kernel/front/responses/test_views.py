"""Records as the CRI shows them."""

from __future__ import annotations

from msgspec.structs import replace

from kernel.contracts.records import Container, ContainerState, SandboxState
from kernel.cri.generated import cri_pb2 as cri
from kernel.front.responses import views
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


def test_kept_items_are_the_messages_they_stand_for() -> None:
    items = views.Items(views.container_item, views.LIST_FIELD, limit=2)
    records = [replace(container(), id=f"{i:064x}", labels={"large": "x" * i * 100}) for i in range(5)]
    for _ in range(2):
        reply = cri.ListContainersResponse.FromString(b"".join(map(items.of, records)))
        assert list(reply.containers) == [views.container_item(record) for record in records]
    ended = replace(records[0], state=ContainerState.EXITED)
    assert cri.ListContainersResponse.FromString(items.of(ended)).containers[0].state == cri.CONTAINER_EXITED


def test_every_state_is_shown() -> None:
    assert set(views.SANDBOX_STATES) == set(SandboxState)
    assert set(views.CONTAINER_STATES) == set(ContainerState)
