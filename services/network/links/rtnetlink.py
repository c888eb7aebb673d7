"""Links, addresses and routes, read and set by rtnetlink.

Numbers and names are those of linux/rtnetlink.h, if_link.h and if_addr.h. Failures are OSErrors.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Iterable

from kernel.contracts.network import Interface, Route
from services.network.links import netlink

_NEWLINK, _GETLINK, _SETLINK, _NEWADDR, _GETADDR, _GETROUTE = 16, 18, 19, 20, 22, 26
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_PROTINFO = 1, 3, 4, 12
_IFLA_LINKINFO, _INFO_KIND = 18, 1
_IFA_ADDRESS, _IFA_LOCAL, _NODAD = 1, 2, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_TABLE = 1, 4, 5, 15
_MAIN, _UNICAST, _LOCAL = 254, 1, 2
_AF_BRIDGE, _BRPORT_MODE = 7, 4
_NO_ROUTE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENXIO, errno.ENODEV)


def is_local(address: str) -> bool:
    """Return whether an address is one of the calling thread's network namespace."""
    return any(body[7] == _LOCAL for body in _route_to(address))


def interface_to(address: str) -> str:
    """Return the name of the interface that the route to an address uses; empty if there is no route."""
    for body in _route_to(address):
        if index := netlink.attributes(body[12:]).get(_RTA_OIF):
            return socket.if_indextoname(struct.unpack("=I", index)[0])
    return ""


def _route_to(address: str) -> list[bytes]:
    target = ipaddress.ip_address(address)
    head = struct.pack("=BBBBBBBBI", _family(target), target.max_prefixlen, 0, 0, 0, 0, 0, 0, 0)
    try:
        return netlink.request(netlink.ROUTE, _GETROUTE, 0, head + netlink.attribute(_RTA_DST, target.packed))
    except OSError as error:
        if error.errno not in _NO_ROUTE:
            raise
        return []


def set_hairpin(interface: str) -> bool:
    """Let a bridge port send a frame back through itself (hairpin mode). Returns False if it is no bridge port."""
    head = struct.pack("=BBHiII", _AF_BRIDGE, 0, 0, socket.if_nametoindex(interface), 0, 0)
    mode = netlink.attribute(_IFLA_PROTINFO | netlink.NESTED, netlink.attribute(_BRPORT_MODE, b"\x01"))
    try:
        netlink.request(netlink.ROUTE, _SETLINK, netlink.ACK, head + mode)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
        return False
    return True


def add_interface(name: str, addresses: Iterable[str]) -> None:
    """Make an interface (one end of a veth pair) with these addresses in the calling thread's network namespace."""
    kind = netlink.attribute(_IFLA_LINKINFO | netlink.NESTED, netlink.attribute(_INFO_KIND, b"veth\0"))
    head = struct.pack("=BBHiII", 0, 0, 0, 0, 0, 0)
    wanted = head + netlink.attribute(_IFLA_IFNAME, name.encode() + b"\0") + kind
    netlink.request(netlink.ROUTE, _NEWLINK, netlink.ACK | netlink.CREATE, wanted)
    index = socket.if_nametoindex(name)
    for address in addresses:
        interface = ipaddress.ip_interface(address)
        head = struct.pack("=BBBBi", _family(interface.ip), interface.network.prefixlen, _NODAD, 0, index)
        both = netlink.attribute(_IFA_LOCAL, interface.packed) + netlink.attribute(_IFA_ADDRESS, interface.packed)
        netlink.request(netlink.ROUTE, _NEWADDR, netlink.ACK | netlink.CREATE, head + both)


def interfaces(kernel: socket.socket) -> tuple[Interface, ...]:
    """Return the interfaces of a socket's network namespace with their addresses."""
    held: dict[int, list[str]] = {}
    for index, address in _addresses(kernel):
        held.setdefault(index, []).append(address)
    found = []
    for body in netlink.request_on(kernel, _GETLINK, netlink.DUMP, struct.pack("=BBHiII", 0, 0, 0, 0, 0, 0)):
        index, given = struct.unpack_from("=i", body, 4)[0], netlink.attributes(body[16:])
        found.append(
            Interface(
                name=_name(given),
                mac=given.get(_IFLA_ADDRESS, b"").hex(":"),
                mtu=struct.unpack("=I", given.get(_IFLA_MTU, bytes(4)))[0],
                addresses=tuple(held.get(index, ())),
            )
        )
    return tuple(found)


def routes(kernel: socket.socket) -> tuple[Route, ...]:
    """Return the routes in the main table of a socket's network namespace, of both families."""
    names = {
        struct.unpack_from("=i", body, 4)[0]: _name(netlink.attributes(body[16:]))
        for body in netlink.request_on(kernel, _GETLINK, netlink.DUMP, struct.pack("=BBHiII", 0, 0, 0, 0, 0, 0))
    }
    found = []
    for family in (socket.AF_INET, socket.AF_INET6):
        head = struct.pack("=BBBBBBBBI", family, 0, 0, 0, 0, 0, 0, 0, 0)
        for body in netlink.request_on(kernel, _GETROUTE, netlink.DUMP, head):
            bits, table, kind = body[1], body[4], body[7]
            given = netlink.attributes(body[12:])
            if (struct.unpack("=I", given.get(_RTA_TABLE, struct.pack("=I", table)))[0], kind) != (_MAIN, _UNICAST):
                continue
            to = ipaddress.ip_address(given[_RTA_DST]) if _RTA_DST in given else "0.0.0.0" if family == 2 else "::"
            via = str(ipaddress.ip_address(given[_RTA_GATEWAY])) if _RTA_GATEWAY in given else ""
            index = struct.unpack("=I", given.get(_RTA_OIF, bytes(4)))[0]
            found.append(Route(to=f"{to}/{bits}", via=via, interface=names.get(index, "")))
    return tuple(found)


def _addresses(kernel: socket.socket) -> list[tuple[int, str]]:
    """Return each address with its prefix length, after the index of its interface."""
    found = []
    for body in netlink.request_on(kernel, _GETADDR, netlink.DUMP, struct.pack("=BBBBi", 0, 0, 0, 0, 0)):
        given = netlink.attributes(body[8:])
        if packed := given.get(_IFA_LOCAL, given.get(_IFA_ADDRESS)):
            found.append((struct.unpack_from("=i", body, 4)[0], f"{ipaddress.ip_address(packed)}/{body[1]}"))
    return found


def _name(given: dict[int, bytes]) -> str:
    return given.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace")


def _family(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6
