"""Host ports: from a pod's mappings and addresses to elements of nftables maps. Pure.

One table per daemon. Its rules never change; a pod is elements of its maps, so that adding and removing one is one
small transaction, and only numbers and addresses ever become text that nft reads.

Only traffic to the node's own addresses is led on, also where a mapping names an address (CVE-2025-67499). From
::1 nothing is led: the kernel has no route_localnet for IPv6, so a client of `localhost` gets a refusal at once and
goes on to 127.0.0.1.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Sequence

import msgspec

from kernel.contracts.network import PortMapping
from kernel.errors import FailedPrecondition, InvalidInput

ANY = frozenset({"", "0.0.0.0", "::"})
"""Host addresses that stand for all of the node's; each but the first of one family."""
_HEAD = """\
comment "host ports of crisp in {root}"
map any4 { type inet_proto . inet_service : ipv4_addr . inet_service; }
map any6 { type inet_proto . inet_service : ipv6_addr . inet_service; }
map one4 { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
map one6 { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }
set near4 { type ipv4_addr . ipv4_addr . inet_proto . inet_service . inet_service; flags interval; }
set near6 { type ipv6_addr . ipv6_addr . inet_proto . inet_service . inet_service; flags interval; }
chain lead {
meta l4proto { tcp, udp, sctp } dnat ip to ip daddr . meta l4proto . th dport map @one4
meta l4proto { tcp, udp, sctp } dnat ip to meta l4proto . th dport map @any4
meta l4proto { tcp, udp, sctp } dnat ip6 to ip6 daddr . meta l4proto . th dport map @one6
meta l4proto { tcp, udp, sctp } dnat ip6 to meta l4proto . th dport map @any6
}
chain arriving {
type nat hook prerouting priority -101;
fib daddr type local jump lead
}
chain own {
type nat hook output priority -101;
ip6 daddr ::1 return
fib daddr type local jump lead
}
chain leaving {
type nat hook postrouting priority 99;
ct status dnat oifname != "lo" ip saddr 127.0.0.0/8 masquerade
{near}}
chain guard {
type filter hook prerouting priority -301;
iifname != "lo" ip daddr 127.0.0.0/8 drop
}
"""
"""`near`: who shares a link with the pod must come by way of the node, or the answer goes past it. `guard`:
route_localnet would let the pods' link reach what the node serves on 127.0.0.1 (CVE-2020-8558)."""


_NEAR = "".join(
    f"meta l4proto {protocol} ct status dnat {ip} saddr . {ip} daddr . meta l4proto . ct original proto-dst"
    f" . {protocol} dport @{near} masquerade\n"
    for protocol in ("tcp", "udp", "sctp")  # nft knows the type of proto-dst by the protocol alone
    for ip, near in (("ip", "near4"), ("ip6", "near6"))
)


class Forward(msgspec.Struct, frozen=True, kw_only=True):
    """One port of the node, in one family, led to a pod."""

    protocol: str
    host_ip: str
    """The node's address; empty for all of the pod address's family."""
    host_port: int
    address: str
    port: int
    link: str
    """The network around the pod's address."""

    @property
    def family(self) -> int:
        """4 or 6."""
        return ipaddress.ip_address(self.address).version


def table_of(root: str) -> str:
    """The name of a daemon's table."""
    return f"crisp-{hashlib.sha256(root.encode()).hexdigest()[:8]}"


def families(host_ip: str) -> frozenset[int]:
    """The families that a host address is of."""
    return frozenset({ipaddress.ip_address(host_ip).version}) if host_ip else frozenset({4, 6})


def meet(one: PortMapping, other: PortMapping) -> bool:
    """Whether both want the same port of the node."""
    same_port = (one.protocol, one.host_port) == (other.protocol, other.host_port)
    same_place = one.host_ip in ANY or other.host_ip in ANY or one.host_ip == other.host_ip
    return same_port and same_place and bool(families(one.host_ip) & families(other.host_ip))


def check(mappings: Sequence[PortMapping]) -> tuple[PortMapping, ...]:
    """Each mapping of a host port, once; InvalidInput where two want the same port of the node."""
    kept: list[PortMapping] = []
    for index, mapping in enumerate(mappings):
        if mapping in kept or not mapping.host_port:  # 0: a container's port that the host does not forward
            continue
        if any(meet(mapping, other) for other in kept):
            raise InvalidInput(f"port_mappings[{index}]: host port {text(mapping)} is mapped twice")
        kept.append(mapping)
    return tuple(kept)


def text(mapping: PortMapping) -> str:
    """A mapping's side of the node, for people: `127.0.0.1:8080/tcp`."""
    where = f"[{mapping.host_ip}]" if ":" in mapping.host_ip else mapping.host_ip
    return f"{where}{':' if where else ''}{mapping.host_port}/{mapping.protocol}"


def forwards(mappings: Iterable[PortMapping], addresses: Sequence[str]) -> tuple[Forward, ...]:
    """What leads to a pod with `addresses` (with their prefix length): the first of each family counts.

    FailedPrecondition where a mapping wants a family that the pod has no address of.
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


def whole(table: str, root: str, every: Iterable[Forward]) -> str:
    """A transaction that leaves exactly these, whatever was there."""
    head = _HEAD.replace("{near}", _NEAR).replace(
        "{root}", "".join(each for each in root if each.isprintable() and each not in '"\\')[:100]
    )
    return f"{nothing(table)}table inet {table} {{\n{head}}}\n{added(table, every)}"


def nothing(table: str) -> str:
    """A transaction that leaves no table, whether there is one or not."""
    return f"add table inet {table}\ndelete table inet {table}\n"


def added(table: str, some: Iterable[Forward]) -> str:
    """A transaction that adds these to the table."""
    return _elements("add", table, some)


def removed(table: str, some: Iterable[Forward]) -> str:
    """A transaction that takes these out of the table."""
    return _elements("delete", table, some)


def _elements(verb: str, table: str, some: Iterable[Forward]) -> str:
    lines: dict[str, None] = {}
    for each in some:
        key, to = f"{each.protocol} . {each.host_port}", f"{each.address} . {each.port}"
        name, key = (f"one{each.family}", f"{each.host_ip} . {key}") if each.host_ip else (f"any{each.family}", key)
        near = f"{each.link} . {each.address} . {each.protocol} . {each.host_port} . {each.port}"
        lines[f"{verb} element inet {table} {name} {{ {key} : {to} }}\n"] = None
        lines[f"{verb} element inet {table} near{each.family} {{ {near} }}\n"] = None
    return "".join(lines)
