"""UpdateRuntimeConfig: with a template the node is ready once the kubelet has told its pod CIDR."""

from __future__ import annotations

import ipaddress
import json

import grpc
import pytest

from kernel.cri.generated import cri_pb2 as pb
from tests.harness import host
from tests.harness.cri import Cri, pod_config, refused
from tests.harness.daemon import Daemon, serving


def tell(cri: Cri, cidr: str) -> None:
    cri.call("UpdateRuntimeConfig", runtime_config=pb.RuntimeConfig(network_config=pb.NetworkConfig(pod_cidr=cidr)))


def test_without_a_template_nothing_happens(daemon: Daemon, cri: Cri) -> None:
    before = sorted((daemon.folder / "cni").iterdir())
    tell(cri, "10.99.0.0/24")
    tell(cri, "")
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "runtime_config.network_config.pod_cidr"):
        tell(cri, "10.99.0.1/24")
    assert sorted((daemon.folder / "cni").iterdir()) == before


def test_a_template_becomes_the_nodes_network(system_users: None) -> None:
    mine = Daemon(network=False)
    template = mine.folder / "template"
    ipam = {"type": "host-local", "dataDir": str(mine.leases), "ranges": "{{.PodCIDRRanges}}"}
    plugin = {"type": "bridge", "bridge": mine.bridge, "isGateway": True, "ipam": ipam}
    template.write_text(json.dumps({"cniVersion": "1.0.0", "name": mine.name, "plugins": [plugin]}))
    with serving(mine, wait=False, network={"config_template": str(template)}):
        host.until("it serves", lambda: mine.socket.exists() and mine.cri.status(wait_for_ready=True))
        with pytest.raises(grpc.RpcError, match="No CNI configuration file"):
            mine.cri.run_pod(pod_config(mine.logs, "early"))
        tell(mine.cri, f"{mine.subnet}.64/28")
        host.until("the network is ready", mine.ready)
        pod = mine.cri.run_pod(pod_config(mine.logs, "late"))
        address = ipaddress.ip_address(mine.cri.pod(pod).network.ip)
        assert address in ipaddress.ip_network(f"{mine.subnet}.64/28")
