"""What rtnetlink says is what iproute2 says."""

from __future__ import annotations

import json
import socket

import pytest

from services.network.links import netlink, rtnetlink
from tests.integration.network.conftest import run


@pytest.fixture
def links(host: None) -> None:
    run("ip", "link", "add", "left", "type", "veth", "peer", "name", "right")
    run("ip", "link", "set", "left", "addrgenmode", "none")  # an address that comes by itself comes at any time
    run("ip", "link", "add", "br9", "type", "bridge")
    run("ip", "link", "set", "right", "master", "br9")
    for argv in (("address", "add", "192.0.2.1/24", "dev", "left"), ("link", "set", "left", "up"),
                 ("-6", "address", "add", "2001:db8::1/64", "dev", "left", "nodad"), ("link", "set", "right", "up"),
                 ("route", "add", "default", "via", "192.0.2.9")):  # fmt: skip
        run("ip", *argv)


def test_links_addresses_and_routes(links: None) -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, netlink.ROUTE) as kernel:
        found = {interface.name: interface for interface in rtnetlink.interfaces(kernel)}
        routes = {(route.to, route.via, route.interface) for route in rtnetlink.routes(kernel)}
    (said,) = [link for link in json.loads(run("ip", "-j", "address")) if link["ifname"] == "left"]
    left = found["left"]
    assert (left.mac, left.mtu) == (said["address"], said["mtu"])
    assert set(left.addresses) == {f"{each['local']}/{each['prefixlen']}" for each in said["addr_info"]}
    assert {"192.0.2.1/24", "2001:db8::1/64"} <= set(left.addresses)
    assert {("0.0.0.0/0", "192.0.2.9", "left"), ("192.0.2.0/24", "", "left"), ("2001:db8::/64", "", "left")} <= routes
    assert all(rtnetlink.is_local(address) for address in ("192.0.2.1", "2001:db8::1", "127.0.0.1"))
    assert not any(
        rtnetlink.is_local(address) for address in ("192.0.2.2", "2001:db8::2", "203.0.113.1", "2001:db9::1")
    )


def test_the_way_to_an_address(links: None) -> None:
    assert rtnetlink.interface_to("192.0.2.7") == rtnetlink.interface_to("2001:db8::7") == "left"
    assert rtnetlink.interface_to("203.0.113.1") == "left"
    assert rtnetlink.interface_to("2001:db8:1::1") == ""


def test_an_interface_is_made_with_addresses(host: None) -> None:
    rtnetlink.add_interface("eth0", ["192.0.2.1/24", "2001:db8::1/64"])
    (said,) = json.loads(run("ip", "-j", "address", "show", "eth0"))
    held = {f"{each['local']}/{each['prefixlen']}" for each in said["addr_info"]}
    assert held == {"192.0.2.1/24", "2001:db8::1/64"}
    with pytest.raises(OSError, match="File exists"):
        rtnetlink.add_interface("eth0", [])


def test_only_a_port_of_a_bridge_can_turn_back(links: None) -> None:
    assert rtnetlink.set_hairpin("right")
    (port,) = json.loads(run("bridge", "-d", "-j", "link", "show", "dev", "right"))
    assert port["hairpin"] is True
    assert not rtnetlink.set_hairpin("left")
    with pytest.raises(OSError, match="no interface"):
        rtnetlink.set_hairpin("nowhere")
