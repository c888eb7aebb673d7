"""Pods on the network: addresses, reach, host ports, the host's own network."""

from __future__ import annotations

import json
import os
import socket
import urllib.request
from pathlib import Path

import grpc
import pytest

from kernel.cri.generated import cri_pb2 as pb
from tests.harness import host
from tests.harness.cri import Cri, Pod, pod_config, refused
from tests.harness.daemon import Daemon
from tests.harness.registry import free_port


def fetch(address: str, port: int) -> str:
    with urllib.request.urlopen(f"http://{address}:{port}/", timeout=5) as reply:
        return reply.read().decode()


def serve(pod: Pod, words: str, port: int = 8080) -> str:
    """A web server in a pod; back once it listens."""
    container = pod.shell(f"mkdir /www; echo '{words}' > /www/index.html; exec httpd -f -p {port} -h /www")
    host.until("the server listens", lambda: f":{port} " in pod.cri.output(container, "netstat", "-ltn"))
    return container


def test_pods_reach_each_other_and_are_reached_from_the_host(pods, cri: Cri) -> None:
    server, client = pods(), pods()
    serve(server, "hello")
    address = cri.pod(server.id).network.ip
    assert fetch(address, 8080) == "hello\n"
    status, log = client.result(f"wget -q -O - http://{address}:8080/")
    assert (status.exit_code, log) == (0, [("stdout", "hello")])
    assert cri.pod(client.id).network.ip != address


def test_the_address_in_the_status_is_the_one_in_the_pod(pod: Pod, cri: Cri) -> None:
    container = pod.shell("sleep 600")
    assert f"inet {cri.pod(pod.id).network.ip}/24" in cri.output(container, "ip", "-4", "addr", "show", "eth0")
    assert "UP" in cri.output(container, "ip", "link", "show", "lo")


def test_containers_of_a_pod_share_its_network(pod: Pod, cri: Cri) -> None:
    serve(pod, "same pod")
    _, log = pod.result("wget -q -O - http://127.0.0.1:8080/")
    assert log == [("stdout", "same pod")]


def test_a_host_port_leads_to_the_pod(pods, cri: Cri, daemon: Daemon) -> None:
    port = free_port()
    mapping = pb.PortMapping(protocol=pb.TCP, container_port=8080, host_port=port)
    pod = pods(pod_config(daemon.logs, "hostport", port_mappings=[mapping]))
    serve(pod, "mapped")
    assert fetch("127.0.0.1", port) == "mapped\n"
    cri.stop_pod(pod.id)
    with socket.socket() as client:
        client.settimeout(3)
        assert client.connect_ex(("127.0.0.1", port)) != 0


def test_a_host_port_that_another_pod_has_is_refused_by_its_name(pods, cri: Cri, daemon: Daemon) -> None:
    mapping = pb.PortMapping(protocol=pb.UDP, container_port=80, host_port=free_port())
    pods(pod_config(daemon.logs, "first", port_mappings=[mapping]))
    before = daemon.leaks()
    words = f"port_mappings[0]: host port {mapping.host_port}/udp belongs to pod default/first"
    with refused(grpc.StatusCode.ALREADY_EXISTS, words):
        cri.run_pod(pod_config(daemon.logs, "second", port_mappings=[mapping]))
    assert daemon.leaks() == before


def test_a_host_port_survives_the_network_worker(pods, cri: Cri, daemon: Daemon) -> None:
    """Traffic goes on while it is dead, and its rules are taken away by its next life."""
    port = free_port()
    mapping = pb.PortMapping(protocol=pb.TCP, container_port=8080, host_port=port)
    pod = pods(pod_config(daemon.logs, "lasting", port_mappings=[mapping]))
    serve(pod, "lasting")
    daemon.kill("network")
    assert fetch("127.0.0.1", port) == "lasting\n"
    host.until("it is back", lambda: daemon.workers()["network"])
    assert fetch("127.0.0.1", port) == "lasting\n"
    daemon.kill("network")
    cri.stop_pod(pod.id)
    assert not [line for line in host.rules(f". {port} ") if "10." in line]


def test_net_shows_each_pod(pods, daemon: Daemon, cri: Cri) -> None:
    port = free_port()
    mapping = pb.PortMapping(protocol=pb.TCP, container_port=8080, host_port=port, host_ip="127.0.0.1")
    pod = pods(pod_config(daemon.logs, "shown", port_mappings=[mapping]))
    address = cri.pod(pod.id).network.ip
    (shown,) = [one for one in json.loads(daemon.command("net", "--check", "--json").stdout) if one["id"] == pod.id]
    assert (shown["pod"], shown["network"], shown["ips"]) == ("default/shown", daemon.name, [address])
    assert f"{address}/24" in {each for one in shown["interfaces"] for each in one["addresses"]}
    assert {"to": "0.0.0.0/0", "via": f"{daemon.subnet}.1", "interface": "eth0"} in shown["routes"]
    assert (shown["host_ports"], shown["problem"]) == ([f"127.0.0.1:{port}/tcp -> 8080"], "")
    table = daemon.command("net").stdout
    assert table.splitlines()[0].split() == ["ID", "POD", "NETWORK", "WHAT", "VALUE"]
    assert f"127.0.0.1:{port}/tcp -> 8080" in table


def test_a_pod_on_the_hosts_network_sees_it(pods, cri: Cri, daemon: Daemon) -> None:
    pod = pods(pod_config(daemon.logs, "onhost", network=pb.NODE))
    assert cri.pod(pod.id).network.ip == ""
    assert cri.pod(pod.id).linux.namespaces.options.network == pb.NODE
    container = pod.shell("sleep 600")
    assert os.readlink(f"/proc/{cri.pid(container)}/ns/net") == os.readlink("/proc/self/ns/net")
    assert cri.output(container, "hostname").strip() == socket.gethostname()
    assert cri.output(container, "cat", "/etc/hosts") == Path("/etc/hosts").read_text()


def test_stop_gives_the_address_back(pods, cri: Cri, daemon: Daemon) -> None:
    pod = pods()
    address = cri.pod(pod.id).network.ip
    assert [path.name for path in daemon.leases.rglob(address)] == [address]
    cri.stop_pod(pod.id)
    assert not list(daemon.leases.rglob(address))
    assert not host.rules(pod.id)


def test_a_pod_whose_network_fails_leaves_nothing(daemon: Daemon, cri: Cri) -> None:
    conflist = daemon.folder / "cni" / "10-test.conflist"
    kept = conflist.read_text()
    conflist.write_text(kept.replace(f'"{daemon.subnet}.0/24"', f'"{daemon.subnet}.0/32"'))
    before = daemon.leaks()
    try:
        config = pod_config(daemon.logs, "no-network")
        with pytest.raises(grpc.RpcError) as caught:
            cri.run_pod(config)
        assert "host-local" in caught.value.details() or "bridge" in caught.value.details()
    finally:
        conflist.write_text(kept)
    assert config.metadata.name not in {item.metadata.name for item in cri.list_pods()}
    assert daemon.leaks() == before
    # The same request succeeds once the network is mended.
    host.until("the network is ready", daemon.ready)
    cri.remove_pod(cri.run_pod(config))
