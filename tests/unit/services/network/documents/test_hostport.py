"""Host ports become elements of maps, and nothing else becomes text that nft reads."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.contracts.network import PortMapping
from kernel.errors import FailedPrecondition, InvalidInput
from services.network.documents import hostport

POD = ("10.1.2.3/24", "fd00::3/64")


def mapping(host_port: int = 8080, host_ip: str = "", protocol: str = "tcp", container_port: int = 80) -> PortMapping:
    return PortMapping(protocol=protocol, container_port=container_port, host_port=host_port, host_ip=host_ip)  # type: ignore[arg-type]


def added(*mappings: PortMapping, addresses: tuple[str, ...] = POD) -> list[str]:
    text = hostport.add("crisp-x", hostport.forwards(mappings, addresses))
    return [line.removeprefix("add element inet crisp-x ") for line in text.splitlines()]


def test_a_port_of_every_address_is_led_in_both_families() -> None:
    assert added(mapping()) == [
        "any4 { tcp . 8080 : 10.1.2.3 . 80 }",
        "onlink4 { 10.1.2.0/24 . 10.1.2.3 . tcp . 8080 . 80 }",
        "any6 { tcp . 8080 : fd00::3 . 80 }",
        "onlink6 { fd00::/64 . fd00::3 . tcp . 8080 . 80 }",
    ]


@pytest.mark.parametrize(
    ("host_ip", "first"),
    [
        ("0.0.0.0", "any4 { udp . 8080 : 10.1.2.3 . 80 }"),
        ("::", "any6 { udp . 8080 : fd00::3 . 80 }"),
        ("192.0.2.1", "one4 { 192.0.2.1 . udp . 8080 : 10.1.2.3 . 80 }"),
        ("2001:db8::1", "one6 { 2001:db8::1 . udp . 8080 : fd00::3 . 80 }"),
    ],
)
def test_an_address_of_the_node_decides_the_family(host_ip: str, first: str) -> None:
    lines = added(mapping(host_ip=host_ip, protocol="udp"))
    assert (lines[0], len(lines)) == (first, 2)


def test_a_family_that_the_pod_has_not_is_refused_where_it_is_asked_for() -> None:
    assert len(added(mapping(), addresses=("10.1.2.3/24",))) == 2
    with pytest.raises(FailedPrecondition, match=r"host port \[::1\]:8080/tcp: the pod has no address of that family"):
        added(mapping(host_ip="::1"), addresses=("10.1.2.3/24",))


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        (mapping(), mapping(), True),
        (mapping(), mapping(host_ip="10.0.0.1"), True),
        (mapping(host_ip="0.0.0.0"), mapping(host_ip="10.0.0.1"), True),
        (mapping(host_ip="0.0.0.0"), mapping(host_ip="::"), False),
        (mapping(host_ip="::"), mapping(host_ip="10.0.0.1"), False),
        (mapping(host_ip="10.0.0.1"), mapping(host_ip="10.0.0.2"), False),
        (mapping(), mapping(protocol="udp"), False),
        (mapping(), mapping(8081), False),
    ],
)
def test_who_wants_the_same_port(one: PortMapping, other: PortMapping, meet: bool) -> None:
    assert hostport.overlap(one, other) == hostport.overlap(other, one) == meet


def test_a_mapping_given_twice_counts_once_and_one_that_contradicts_is_named() -> None:
    assert hostport.check([mapping(), mapping(), mapping(1), mapping(0)]) == (mapping(), mapping(1))
    with pytest.raises(InvalidInput, match=r"port_mappings\[1\]: host port 10.0.0.1:8080/tcp is mapped twice"):
        hostport.check([mapping(), mapping(host_ip="10.0.0.1", container_port=81)])


def test_what_is_added_is_what_is_removed() -> None:
    forwards = hostport.forwards([mapping(), mapping(host_ip="192.0.2.1")], POD)
    add, remove = hostport.add("t", forwards), hostport.remove("t", forwards)
    assert add.replace("add element", "delete element") == remove
    whole = hostport.replace_table("t", '/var/"x"\n/lib', forwards)
    assert whole.startswith("add table inet t\ndelete table inet t\ntable inet t {\n")
    assert add in whole
    assert 'comment "host ports of crisp in /var/x/lib"' in whole


def test_each_daemon_has_a_table_of_its_own() -> None:
    one, other = hostport.table_of("/var/lib/crisp"), hostport.table_of("/srv/crisp")
    assert one != other
    assert re.fullmatch(r"crisp-[0-9a-f]{8}", one)


PORTS = st.integers(1, 65535)
MAPPINGS = st.builds(
    PortMapping,
    protocol=st.sampled_from(["tcp", "udp", "sctp"]),
    container_port=PORTS,
    host_port=PORTS,
    host_ip=st.one_of(st.just(""), st.ip_addresses().map(str)),
)


@given(st.lists(MAPPINGS, max_size=5), st.ip_addresses(v=4), st.ip_addresses(v=6))
def test_only_numbers_and_addresses_become_text(mappings: list[PortMapping], v4: object, v6: object) -> None:
    for line in added(*mappings, addresses=(f"{v4}/32", f"{v6}/128")):
        assert re.fullmatch(r"(any|one|onlink)[46] \{ [0-9a-f:./ tcpuds]+ \}", line), line
