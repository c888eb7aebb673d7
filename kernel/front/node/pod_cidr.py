"""UpdateRuntimeConfig: the kubelet tells the node's pod CIDR, from which the network worker makes its configuration
where a template is configured. Elsewhere it succeeds and changes nothing."""

from __future__ import annotations

import ipaddress

from kernel.contracts import network
from kernel.cri.generated import cri_pb2 as cri
from kernel.front.context import Call, Front
from kernel.front.requests import fields

_FIELD = "runtime_config.network_config.pod_cidr"
_MOST = 16


async def update_runtime_config(
    front: Front, request: cri.UpdateRuntimeConfigRequest, call: Call
) -> cri.UpdateRuntimeConfigResponse:
    """UpdateRuntimeConfig."""
    cidrs = parse(request.runtime_config.network_config.pod_cidr)
    if cidrs and front.config.network.config_template:
        asked = network.ConfigureRequest(pod_cidrs=cidrs)
        await front.network.call(network.CONFIGURE, asked, deadline=call.deadline)
    return cri.UpdateRuntimeConfigResponse()


def parse(text: str) -> tuple[str, ...]:
    """The CIDRs of a list with commas between, one of each family as a rule; none where it is empty."""
    found = [part.strip() for part in fields.text(_FIELD, text).split(",") if part.strip()]
    if len(found) > _MOST:
        fields.refuse(_FIELD, f"has {len(found)} CIDRs, more than {_MOST}")
    for each in found:
        try:
            ipaddress.ip_network(each)
        except ValueError:
            fields.refuse(_FIELD, f"{each[:80]!r} is not a CIDR such as '10.1.2.0/24'")
    return tuple(found)
