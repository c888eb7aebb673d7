"""UpdateRuntimeConfig: the kubelet sends the node's pod CIDRs, and the network worker makes its configuration of them.

It does so if a template is configured; otherwise the call succeeds and changes nothing.
"""

from __future__ import annotations

import ipaddress

from kernel.contracts import network
from kernel.cri.generated import cri_pb2 as cri
from kernel.front.context import Call, Front
from kernel.front.requests import fields

_FIELD = "runtime_config.network_config.pod_cidr"
_MOST = 16
"""The most CIDRs of a node."""


async def update_runtime_config(
    front: Front, request: cri.UpdateRuntimeConfigRequest, call: Call
) -> cri.UpdateRuntimeConfigResponse:
    """Serve UpdateRuntimeConfig."""
    cidrs = parse(request.runtime_config.network_config.pod_cidr)
    if cidrs and front.config.network.config_template:
        request_to_network = network.ConfigureRequest(pod_cidrs=cidrs)
        await front.network.call(network.CONFIGURE, request_to_network, deadline=call.deadline)
    return cri.UpdateRuntimeConfigResponse()


def parse(text: str) -> tuple[str, ...]:
    """Return the CIDRs of NetworkConfig.pod_cidr, a list with commas; usually one of each IP family."""
    found = [part.strip() for part in fields.text(_FIELD, text).split(",") if part.strip()]
    if len(found) > _MOST:
        fields.refuse(_FIELD, f"has {len(found)} CIDRs, more than {_MOST}")
    for cidr in found:
        try:
            ipaddress.ip_network(cidr)
        except ValueError:
            fields.refuse(_FIELD, f"{cidr[:80]!r} is not a CIDR such as '10.1.2.0/24'")
    return tuple(found)
