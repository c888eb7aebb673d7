"""Readings of pods out of CRI statistics."""

from __future__ import annotations

from kernel.cli.usage.pods import readings
from kernel.cri.generated import cri_pb2


def test_a_pod_with_containers() -> None:
    pod = cri_pb2.PodSandboxStats()
    pod.attributes.id = "p" * 64
    pod.attributes.metadata.name, pod.attributes.metadata.namespace = "web", "default"
    pod.linux.cpu.timestamp = 7
    pod.linux.cpu.usage_core_nano_seconds.value = 0
    pod.linux.cpu.usage_nano_cores.value = 5
    pod.linux.memory.working_set_bytes.value = 4096
    pod.linux.process.process_count.value = 3
    pod.linux.network.timestamp = 8
    for interface in (pod.linux.network.default_interface, pod.linux.network.interfaces.add()):
        interface.rx_bytes.value, interface.tx_bytes.value = 10, 20
    for size in (100, None, 200):
        container = pod.linux.containers.add()
        container.attributes.id = "c" * 64
        container.attributes.metadata.name = "nginx"
        if size is not None:
            container.writable_layer.used_bytes.value = size
    (found,) = readings([pod])
    assert (found.namespace, found.pod.name, found.pod.id) == ("default", "web", "p" * 64)
    assert (found.pod.at, found.pod.cpu, found.pod.nano_cores, found.pod.memory) == (7, 0, 5, 4096)
    assert (found.pod.processes, found.pod.writable_layer) == (3, 300)
    assert (found.pod.network_at, found.pod.received, found.pod.sent) == (8, 20, 40)
    assert [one.writable_layer for one in found.containers] == [100, None, 200]
    assert {one.name for one in found.containers} == {"nginx"}


def test_what_the_daemon_does_not_know_is_none() -> None:
    """A pod on the host's network, or that was made this moment."""
    (found,) = readings([cri_pb2.PodSandboxStats()])
    pod = found.pod
    assert (pod.cpu, pod.nano_cores, pod.memory, pod.processes) == (None, None, None, None)
    assert (pod.writable_layer, pod.received, pod.sent, found.containers) == (None, None, None, ())
