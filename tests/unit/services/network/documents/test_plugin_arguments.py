"""What a pod's request says to plugins."""

import pytest

from kernel.contracts.network import AttachRequest, PortMapping
from kernel.errors import InvalidInput
from kernel.ids import SandboxId
from services.network.documents import plugin_arguments

SANDBOX = SandboxId("ab" * 32)
ANNOTATIONS = {
    "kubernetes.io/ingress-bandwidth": "10M",
    "cni.crisp/ips": "10.1.2.3/24, fd00::3/64",
    "cni.crisp/mac": "02:00:00:00:00:01",
}


def request(
    *,
    name: str = "web",
    namespace: str = "shop",
    uid: str = "1-2",
    port_mappings: tuple[PortMapping, ...] = (),
    annotations: dict[str, str] | None = None,
    dns_servers: tuple[str, ...] = (),
    cgroup_parent: str = "",
) -> AttachRequest:
    return AttachRequest(
        sandbox_id=SANDBOX,
        name=name,
        namespace=namespace,
        uid=uid,
        port_mappings=port_mappings,
        annotations=annotations or {},
        dns_servers=dns_servers,
        cgroup_parent=cgroup_parent,
    )


def mapping(container_port: int = 80, host_port: int = 8080, host_ip: str = "") -> PortMapping:
    return PortMapping(protocol="tcp", container_port=container_port, host_port=host_port, host_ip=host_ip)


def test_arguments_name_the_pod() -> None:
    assert plugin_arguments.arguments(request()) == (
        f"IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID={SANDBOX};K8S_POD_UID=1-2"
    )


@pytest.mark.parametrize("text", ["a;K8S_POD_NAMESPACE=kube-system", "a=b", "a\nb", "a\0b"])
def test_text_cannot_become_another_argument(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"metadata.name"):
        plugin_arguments.arguments(request(name=text))
    with pytest.raises(InvalidInput, match=r"metadata.namespace"):
        plugin_arguments.arguments(request(namespace=text))


def test_nothing_asked_gives_no_values() -> None:
    assert plugin_arguments.values(request()) == {}


def test_each_capability_has_its_form() -> None:
    asked = request(
        port_mappings=(mapping(), mapping(host_port=0)),
        annotations=ANNOTATIONS,
        dns_servers=("10.0.0.10",),
        cgroup_parent="/kubepods/pod1",
    )
    assert plugin_arguments.values(asked) == {
        "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""}],
        "bandwidth": {"ingressRate": 10_000_000, "ingressBurst": 2**31 - 1},
        "dns": {"servers": ["10.0.0.10"]},
        "cgroupPath": "/kubepods/pod1",
        "ips": ["10.1.2.3/24", "fd00::3/64"],
        "mac": "02:00:00:00:00:01",
        "io.kubernetes.cri.pod-annotations": ANNOTATIONS,
    }


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (mapping(host_port=65536), r"port_mappings\[0\].host_port"),
        (mapping(host_port=-1), r"port_mappings\[0\].host_port"),
        (mapping(container_port=0), r"port_mappings\[0\].container_port"),
        (mapping(host_ip="10.0.0.1; drop"), r"port_mappings\[0\].host_ip"),
    ],
)
def test_wrong_ports_are_named(wrong: PortMapping, named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        plugin_arguments.values(request(port_mappings=(wrong,)))


@pytest.mark.parametrize(
    ("text", "bits"),
    [("1000", 1000), ("1k", 1000), ("1.5M", 1_500_000), ("1Gi", 2**30), ("1e6", 10**6), ("1P", 10**15)],
)
def test_bandwidth_is_a_quantity(text: str, bits: int) -> None:
    assert plugin_arguments.bits_per_second(text, "x") == bits


@pytest.mark.parametrize("text", ["", "fast", "-1M", "1", "2P", "1e99", "10m", "1 M", "1M\n", "9" * 50])
def test_wrong_bandwidth_is_named(text: str) -> None:
    with pytest.raises(InvalidInput, match="egress-bandwidth"):
        plugin_arguments.values(request(annotations={"kubernetes.io/egress-bandwidth": text}))


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        ("cni.crisp/ips", "10.1.2.3/33"),
        ("cni.crisp/ips", "10.1.2.3/24; rm"),
        ("cni.crisp/ips", ",".join(f"10.1.2.{number}/24" for number in range(17))),
        ("cni.crisp/mac", "01:00:00:00:00:01"),
        ("cni.crisp/mac", "02:00:00:00:00:01\n"),
        ("cni.crisp/mac", "x"),
    ],
)
def test_wrong_addresses_are_named(annotation: str, text: str) -> None:
    with pytest.raises(InvalidInput, match=rf"annotations\[{annotation}\]"):
        plugin_arguments.check(request(annotations={annotation: text}))
