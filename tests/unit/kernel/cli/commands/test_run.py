"""What the options of `crisp run` become."""

from __future__ import annotations

import pytest

from kernel.cli.commands import run
from kernel.cli.main import parser
from kernel.cri.generated import cri_pb2
from kernel.errors import InvalidInput


def test_options_become_a_pod_and_a_container() -> None:
    options = parser().parse_args(
        ["run", "--name", "web", "-e", "A=b=c", "-v", "/h:/c:ro", "-p", "8080:80", "--pid", "pod", "x:1", "ls", "-la"]
    )
    pod = run.pod(options)
    assert (pod.metadata.name, pod.metadata.namespace, pod.hostname) == ("web", "crisp", "web")
    assert len(pod.metadata.uid) == 36
    assert pod.linux.security_context.namespace_options.pid == cri_pb2.POD
    assert [(port.host_port, port.container_port) for port in pod.port_mappings] == [(8080, 80)]
    container = run.container(options, "web")
    assert list(container.args) == ["ls", "-la"]
    assert list(container.command) == []
    assert [(env.key, env.value) for env in container.envs] == [("A", b"b=c")]
    assert [(m.host_path, m.container_path, m.readonly) for m in container.mounts] == [("/h", "/c", True)]
    assert container.log_path == "web.log"
    assert "/proc/kcore" in container.linux.security_context.masked_paths
    assert "/proc/sys" in container.linux.security_context.readonly_paths


def test_host_namespaces() -> None:
    options = parser().parse_args(["run", "--host-network", "--pid", "host", "busybox"])
    pod = run.pod(options)
    assert pod.hostname == ""
    for namespaces in (
        pod.linux.security_context.namespace_options,
        run.container(options, "x").linux.security_context.namespace_options,
    ):
        assert (namespaces.network, namespaces.pid) == (cri_pb2.NODE, cri_pb2.NODE)


@pytest.mark.parametrize(
    ("image", "stem"),
    [
        ("busybox", "busybox"),
        ("quay.io:5000/a/My_App.x:1", "my-app-x"),
        ("a@sha256:" + "0" * 64, "a"),
        ("sha256:abc", "sha256"),
        ("localhost/___", "pod"),
    ],
)
def test_default_names_are_names(image: str, stem: str) -> None:
    name = run.default_name(image)
    assert name.rpartition("-")[0] == stem
    assert run.pod(parser().parse_args(["run", "--name", name, image])).metadata.name == name


@pytest.mark.parametrize(
    ("text", "protocol", "address", "host", "container"),
    [
        ("80:8080", cri_pb2.TCP, "", 80, 8080),
        ("127.0.0.1:53:5353/udp", cri_pb2.UDP, "127.0.0.1", 53, 5353),
        ("[::1]:1:2/sctp", cri_pb2.SCTP, "::1", 1, 2),
    ],
)
def test_publish(text: str, protocol: int, address: str, host: int, container: int) -> None:
    port = run.publish(text)
    assert (port.protocol, port.host_ip, port.host_port, port.container_port) == (protocol, address, host, container)


@pytest.mark.parametrize("text", ["80", "0:80", "80:65536", "a:b", "80:80/icmp", "80:80:80:80", "٨:8"])
def test_refused_ports(text: str) -> None:
    with pytest.raises(InvalidInput, match="--publish"):
        run.publish(text)


@pytest.mark.parametrize("text", ["/a", "a:/b", "/a:b", "/a:/b:rw:x", "/a:/b:exec", ""])
def test_refused_volumes(text: str) -> None:
    with pytest.raises(InvalidInput, match="--volume"):
        run.volume(text)


@pytest.mark.parametrize("text", ["A", "=b", ""])
def test_refused_variables(text: str) -> None:
    with pytest.raises(InvalidInput, match="--env"):
        run.environment(text)


def test_refused_names() -> None:
    with pytest.raises(InvalidInput, match="--name"):
        run.pod(parser().parse_args(["run", "--name", "a/b", "busybox"]))
