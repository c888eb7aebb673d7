"""What the kernel's packet filter holds, as far as `nft` is not needed for it: whether a table is there, and flows.

Numbers and names are those of linux/netfilter/nfnetlink.h, nf_tables.h and nfnetlink_conntrack.h. Failures are
OSErrors.
"""

from __future__ import annotations

import errno
import socket
import struct

from services.network.links import netlink

_GETTABLE, _TABLE_NAME, _INET = 10 << 8 | 1, 1, 1
_CT_GET, _CT_DELETE = 1 << 8 | 1, 1 << 8 | 2
_CTA_TUPLE_ORIG, _CTA_ZONE, _CTA_FILTER = 1, 18, 25
_CTA_TUPLE_PROTO, _CTA_PROTO_NUM, _CTA_PROTO_DST_PORT = 2, 1, 3
_FILTER_ORIG_FLAGS, _BY_PROTOCOL_AND_PORT = 1, 1 << 3 | 1 << 5
_UDP = 17


def has_table(name: str) -> bool:
    """Whether nftables has a table of the family inet."""
    wanted = _nfgen(_INET) + netlink.attribute(_TABLE_NAME, name.encode() + b"\0")
    try:
        netlink.ask(netlink.NETFILTER, _GETTABLE, netlink.ACK, wanted)
    except OSError as error:
        if error.errno in (
            errno.ENOENT,
            errno.EOPNOTSUPP,
            errno.EPROTONOSUPPORT,
            errno.EINVAL,
        ):  # or no nftables at all
            return False
        raise
    return True


def forget_udp(port: int) -> int:
    """End the flows of UDP that were first sent to `port`, so that their next packets meet the rules of now; how many.

    A client that sends on and on would else be led for ever to where the port led once.
    """
    forgotten = 0
    for family in (socket.AF_INET, socket.AF_INET6):
        for body in netlink.ask(netlink.NETFILTER, _CT_GET, netlink.DUMP, _nfgen(family) + _flows_to(port)):
            given = netlink.attributes(body[4:])
            flow = given.get(_CTA_TUPLE_ORIG, b"")
            if not _is_to(flow, port):  # a kernel before 5.8 does not filter
                continue
            zone = netlink.attribute(_CTA_ZONE, given[_CTA_ZONE]) if _CTA_ZONE in given else b""
            tuple_ = netlink.attribute(_CTA_TUPLE_ORIG | netlink.NESTED, flow)
            try:
                netlink.ask(netlink.NETFILTER, _CT_DELETE, netlink.ACK, _nfgen(family) + tuple_ + zone)
            except OSError as error:
                if error.errno != errno.ENOENT:  # it ended by itself
                    raise
            else:
                forgotten += 1
    return forgotten


def _flows_to(port: int) -> bytes:
    proto = netlink.attribute(_CTA_PROTO_NUM, bytes((_UDP,)))
    proto += netlink.attribute(_CTA_PROTO_DST_PORT, struct.pack("!H", port))
    inner = netlink.attribute(_CTA_TUPLE_PROTO | netlink.NESTED, proto)
    flags = netlink.attribute(_FILTER_ORIG_FLAGS, struct.pack("=I", _BY_PROTOCOL_AND_PORT))
    return netlink.attribute(_CTA_TUPLE_ORIG | netlink.NESTED, inner) + netlink.attribute(
        _CTA_FILTER | netlink.NESTED, flags
    )


def _is_to(flow: bytes, port: int) -> bool:
    proto = netlink.attributes(netlink.attributes(flow).get(_CTA_TUPLE_PROTO, b""))
    return (proto.get(_CTA_PROTO_NUM), proto.get(_CTA_PROTO_DST_PORT)) == (bytes((_UDP,)), struct.pack("!H", port))


def _nfgen(family: int) -> bytes:
    return struct.pack("=BBH", family, 0, 0)
