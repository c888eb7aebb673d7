"""Ports and addresses belong to one pod at a time."""

import pytest

from kernel.contracts.network import PortMapping
from kernel.errors import AlreadyExists, Internal
from kernel.ids import SandboxId
from services.network.records.claims import Claims

ONE, OTHER = SandboxId("a" * 64), SandboxId("b" * 64)
WEB = (PortMapping(protocol="tcp", container_port=80, host_port=8080),)


def nobodys(address: str) -> bool:
    return False


def test_a_port_is_refused_with_the_name_of_who_has_it() -> None:
    claims = Claims()
    claims.claim_ports(ONE, "shop/web-0", WEB)
    claims.claim_ports(ONE, "shop/web-0", WEB)
    with pytest.raises(
        AlreadyExists, match=r"port_mappings\[0\]: host port 8080/tcp belongs to pod shop/web-0 \(sandbox a{13}\)"
    ):
        claims.claim_ports(OTHER, "shop/web-1", WEB)
    claims.release(OTHER)
    claims.release(ONE)
    claims.claim_ports(OTHER, "shop/web-1", WEB)


def test_an_address_is_refused_with_the_name_of_who_has_it() -> None:
    claims = Claims()
    claims.claim_addresses(ONE, "shop/web-0", "pods", ["10.1.1.1", "fd00::1"], nobodys)
    claims.claim_addresses(ONE, "shop/web-0", "pods", ["10.1.1.1"], nobodys)
    with pytest.raises(Internal, match=r"address fd00::1 belongs to pod shop/web-0 \(sandbox a{13}\), which lives"):
        claims.claim_addresses(OTHER, "shop/web-1", "pods", ["10.1.1.2", "fd00::1"], nobodys)
    claims.claim_addresses(OTHER, "shop/web-1", "another", ["10.1.1.1"], nobodys)
    claims.release(ONE)
    claims.claim_addresses(OTHER, "shop/web-1", "pods", ["10.1.1.2", "fd00::1"], nobodys)


def test_the_hosts_own_address_is_refused() -> None:
    with pytest.raises(Internal, match=r"malformed result: address 192.0.2.1 is the host's own"):
        Claims().claim_addresses(ONE, "shop/web-0", "pods", ["192.0.2.1"], "192.0.2.1".__eq__)
