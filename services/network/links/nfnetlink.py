"""The parts of the kernel's packet filter for which no `nft` process is needed: whether a table exists, and flows.

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
_NO_TABLE = (errno.ENOENT, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT, errno.EINVAL)
"""Errors without the table: ENOENT means no such table, the others no nftables in this kernel."""


def has_table(name: str) -> bool:
    """Return whether nftables has a table of this name in the family inet; False too if the kernel has no nftables."""
    wanted = _nfgen(_INET) + netlink.attribute(_TABLE_NAME, name.encode() + b"\0")
    try:
        netlink.request(netlink.NETFILTER, _GETTABLE, netlink.ACK, wanted)
    except OSError as error:
        if error.errno in _NO_TABLE:
            return False
        raise
    return True


def end_udp_flows(port: int) -> int:
    """End the UDP flows that were first sent to `port`, so that their next packets match the current rules.

    Returns the number of flows ended. Without this, a client that never stops sending would be forwarded for ever to
    the pod that had the port before.
    """
    ended = 0
    for family in (socket.AF_INET, socket.AF_INET6):
        for body in netlink.request(netlink.NETFILTER, _CT_GET, netlink.DUMP, _nfgen(family) + _flows_to(port)):
            given = netlink.attributes(body[4:])
            flow = given.get(_CTA_TUPLE_ORIG, b"")
            if not _is_to(flow, port):  # a kernel before 5.8 does not filter
                continue
            zone = netlink.attribute(_CTA_ZONE, given[_CTA_ZONE]) if _CTA_ZONE in given else b""
            tuple_ = netlink.attribute(_CTA_TUPLE_ORIG | netlink.NESTED, flow)
            try:
                netlink.request(netlink.NETFILTER, _CT_DELETE, netlink.ACK, _nfgen(family) + tuple_ + zone)
            except OSError as error:
                if error.errno != errno.ENOENT:  # it has ended by itself
                    raise
            else:
                ended += 1
    return ended


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
