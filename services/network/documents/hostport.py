"""Host ports: a pod's mappings and addresses become elements of nftables maps. Pure.

There is one table per daemon. Its rules never change: a pod is a few elements of its maps, so adding or removing a pod
is one small transaction, and only numbers and addresses ever become text that nft reads.

Only traffic to the node's own addresses is forwarded, even if a mapping names another address (CVE-2025-67499). Traffic
to ::1 is not forwarded, because the kernel has no route_localnet for IPv6: a client of `localhost` is refused there at
once and goes on to 127.0.0.1.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Sequence

import msgspec

from kernel.contracts.network import PortMapping
from kernel.errors import FailedPrecondition, InvalidInput

ANY = frozenset({"", "0.0.0.0", "::"})
"""Host addresses that stand for all addresses of the node: the first for both families, the others for their own."""
_HEAD = """\
comment "host ports of crisp in {root}"
map any4 { type inet_proto . inet_service : ipv4_addr . inet_service; }
map any6 { type inet_proto . inet_service : ipv6_addr . inet_service; }
map one4 { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
map one6 { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }
set onlink4 { type ipv4_addr . ipv4_addr . inet_proto . inet_service . inet_service; flags interval; }
set onlink6 { type ipv6_addr . ipv6_addr . inet_proto . inet_service . inet_service; flags interval; }
chain to_pods {
meta l4proto { tcp, udp, sctp } dnat ip to ip daddr . meta l4proto . th dport map @one4
meta l4proto { tcp, udp, sctp } dnat ip to meta l4proto . th dport map @any4
meta l4proto { tcp, udp, sctp } dnat ip6 to ip6 daddr . meta l4proto . th dport map @one6
meta l4proto { tcp, udp, sctp } dnat ip6 to meta l4proto . th dport map @any6
}
chain arriving {
type nat hook prerouting priority -101;
fib daddr type local jump to_pods
}
chain from_node {
type nat hook output priority -101;
ip6 daddr ::1 return
fib daddr type local jump to_pods
}
chain leaving {
type nat hook postrouting priority 99;
ct status dnat oifname != "lo" ip saddr 127.0.0.0/8 masquerade
{onlink}}
chain guard {
type filter hook prerouting priority -301;
iifname != "lo" ip daddr 127.0.0.0/8 drop
}
"""
"""The `onlink` rules masquerade clients that share a link with the pod: otherwise the pod would answer them directly,
past the node's translation. The `guard` chain is needed beside route_localnet, which alone would let the pods' link
reach what the node serves on 127.0.0.1 (CVE-2020-8558)."""
_ONLINK = "".join(
    f"meta l4proto {protocol} ct status dnat {ip} saddr . {ip} daddr . meta l4proto . ct original proto-dst"
    f" . {protocol} dport @{onlink} masquerade\n"
    for protocol in ("tcp", "udp", "sctp")  # nft derives the type of proto-dst from the protocol only
    for ip, onlink in (("ip", "onlink4"), ("ip6", "onlink6"))
)


class Forward(msgspec.Struct, frozen=True, kw_only=True):
    """One port of the node that is forwarded to a pod, in one address family."""

    protocol: str
    host_ip: str
    """The node's address; empty for all of its addresses in this family."""
    host_port: int
    address: str
    port: int
    link: str
    """The network of the pod's address, such as 10.1.2.0/24."""

    @property
    def family(self) -> int:
        """The address family: 4 or 6."""
        return ipaddress.ip_address(self.address).version


def table_of(root: str) -> str:
    """Return the name of the table of the daemon whose root folder is `root`."""
    return f"crisp-{hashlib.sha256(root.encode()).hexdigest()[:8]}"


def families(host_ip: str) -> frozenset[int]:
    """Return the address families that a host address stands for; both if it is empty."""
    return frozenset({ipaddress.ip_address(host_ip).version}) if host_ip else frozenset({4, 6})


def overlap(one: PortMapping, other: PortMapping) -> bool:
    """Return whether two mappings claim the same port of the node."""
    same_port = (one.protocol, one.host_port) == (other.protocol, other.host_port)
    same_place = one.host_ip in ANY or other.host_ip in ANY or one.host_ip == other.host_ip
    return same_port and same_place and bool(families(one.host_ip) & families(other.host_ip))


def check(mappings: Sequence[PortMapping]) -> tuple[PortMapping, ...]:
    """Return the mappings that have a host port, each once. InvalidInput if two claim the same port of the node."""
    kept: list[PortMapping] = []
    for index, mapping in enumerate(mappings):
        if mapping in kept or not mapping.host_port:  # 0: a container's port that the host does not forward
            continue
        if any(overlap(mapping, other) for other in kept):
            raise InvalidInput(f"port_mappings[{index}]: host port {text(mapping)} is mapped twice")
        kept.append(mapping)
    return tuple(kept)


def text(mapping: PortMapping) -> str:
    """Return the node's side of a mapping for people: `127.0.0.1:8080/tcp`."""
    where = f"[{mapping.host_ip}]" if ":" in mapping.host_ip else mapping.host_ip
    return f"{where}{':' if where else ''}{mapping.host_port}/{mapping.protocol}"


def forwards(mappings: Iterable[PortMapping], addresses: Sequence[str]) -> tuple[Forward, ...]:
    """Return the table's forwards of the mapped ports to a pod with these addresses.

    `addresses` have their prefix length; the first of each family is used. FailedPrecondition if a mapping is for a
    family that the pod has no address of.
    """
    first: dict[int, ipaddress.IPv4Interface | ipaddress.IPv6Interface] = {}
    for address in addresses:
        interface = ipaddress.ip_interface(address)
        first.setdefault(interface.version, interface)
    found: list[Forward] = []
    for mapping in mappings:
        fitting = [first[family] for family in sorted(families(mapping.host_ip)) if family in first]
        if not fitting:
            raise FailedPrecondition(
                f"host port {text(mapping)}: the pod has no address of that family, only {', '.join(addresses)}"
            )
        found += [
            Forward(
                protocol=mapping.protocol,
                host_ip="" if mapping.host_ip in ANY else mapping.host_ip,
                host_port=mapping.host_port,
                address=str(pod.ip),
                port=mapping.container_port,
                link=str(pod.network),
            )
            for pod in fitting
        ]
    return tuple(found)


def replace_table(table: str, root: str, every: Iterable[Forward]) -> str:
    """Return a transaction after which the table has exactly the forwards `every`, whatever it had before."""
    head = _HEAD.replace("{onlink}", _ONLINK).replace(
        "{root}", "".join(each for each in root if each.isprintable() and each not in '"\\')[:100]
    )
    return f"{drop_table(table)}table inet {table} {{\n{head}}}\n{add(table, every)}"


def drop_table(table: str) -> str:
    """Return a transaction after which there is no such table, whether there was one or not."""
    return f"add table inet {table}\ndelete table inet {table}\n"


def add(table: str, some: Iterable[Forward]) -> str:
    """Return a transaction that adds forwards to the table."""
    return _elements("add", table, some)


def remove(table: str, some: Iterable[Forward]) -> str:
    """Return a transaction that removes forwards from the table."""
    return _elements("delete", table, some)


def _elements(verb: str, table: str, some: Iterable[Forward]) -> str:
    lines: dict[str, None] = {}
    for each in some:
        key, to = f"{each.protocol} . {each.host_port}", f"{each.address} . {each.port}"
        name, key = (f"one{each.family}", f"{each.host_ip} . {key}") if each.host_ip else (f"any{each.family}", key)
        onlink = f"{each.link} . {each.address} . {each.protocol} . {each.host_port} . {each.port}"
        lines[f"{verb} element inet {table} {name} {{ {key} : {to} }}\n"] = None
        lines[f"{verb} element inet {table} onlink{each.family} {{ {onlink} }}\n"] = None
    return "".join(lines)
