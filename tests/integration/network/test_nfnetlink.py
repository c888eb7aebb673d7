"""Tables are found by name; flows of UDP end by the port they were sent to."""

from __future__ import annotations

import socket
from pathlib import Path

from services.network.links import nfnetlink
from tests.integration.network.conftest import run


def test_a_table_is_there_or_not(host: None) -> None:
    assert not nfnetlink.has_table("crisp-x")
    run("nft", "add table inet crisp-x")
    assert nfnetlink.has_table("crisp-x")
    assert not nfnetlink.has_table("crisp-y")


def flows() -> list[str]:
    return [line for line in Path("/proc/thread-self/net/nf_conntrack").read_text().splitlines() if "udp" in line]


def test_only_flows_to_the_port_end(host: None) -> None:
    chain = "{ type filter hook output priority 0; }"
    run("nft", f"add table inet t; add chain inet t c {chain}; add rule inet t c ct state new accept")  # wants flows
    for family, loopback in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        for port in (53, 54):
            with socket.socket(family, socket.SOCK_DGRAM) as server, socket.socket(family, socket.SOCK_DGRAM) as client:
                server.bind((loopback, port))
                client.sendto(b"?", (loopback, port))
    if not (before := flows()):  # a kernel that does not list them still ends them
        assert nfnetlink.end_udp_flows(53) == 2
        return
    assert len(before) == 4
    assert nfnetlink.end_udp_flows(53) == 2
    assert nfnetlink.end_udp_flows(53) == 0
    assert [line for line in flows() if "dport=53 " in line] == []
    assert len(flows()) == 2
