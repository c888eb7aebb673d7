"""The values that plugins are passed about a pod: CNI_ARGS and capabilities (`runtimeConfig`). Pure.

Capability names are those of the CNI conventions (CONVENTIONS.md), annotation names those of Kubernetes. This module
makes every value that the request has; `conflist.stdin` then gives each plugin only the capabilities that it declares.
"""

from __future__ import annotations

import ipaddress
import re
from decimal import Decimal

from kernel.contracts.network import AttachRequest, PortMapping
from kernel.errors import InvalidInput
from services.network.documents import hostport

_INGRESS = "kubernetes.io/ingress-bandwidth"
_EGRESS = "kubernetes.io/egress-bandwidth"
_IPS = "cni.crisp/ips"
_MAC = "cni.crisp/mac"
"""Annotations by which a pod requests addresses and a hardware address. They take effect only if the network has a
plugin that declares the capability of that name."""
_MAC_FORM = re.compile(r"[0-9a-fA-F][02468aceACE](:[0-9a-fA-F]{2}){5}", re.ASCII)
_MOST_IPS = 16
_BURST = (1 << 31) - 1
"""Bits: the burst that kubenet, Kubernetes' former network plugin, set."""
_QUANTITY = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,9})?)(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi|[eE][0-9]{1,2})?", re.ASCII)
_UNITS = {
    "": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15,
    "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "Pi": 1 << 50,
}  # fmt: skip
_ARGUMENT = re.compile(r"[^;=\x00-\x1f\x7f]{0,1024}")


def arguments(request: AttachRequest) -> str:
    """Return the value of CNI_ARGS. InvalidInput names a field whose text would become a second argument."""
    values = {
        "K8S_POD_NAMESPACE": _plain(request.namespace, "metadata.namespace"),
        "K8S_POD_NAME": _plain(request.name, "metadata.name"),
        "K8S_POD_INFRA_CONTAINER_ID": request.sandbox_id,
        "K8S_POD_UID": _plain(request.uid, "metadata.uid"),
    }
    return ";".join(["IgnoreUnknown=1", *(f"{key}={value}" for key, value in values.items())])


def check(request: AttachRequest) -> None:
    """Check all that plugins will be passed. InvalidInput names the field that is wrong."""
    arguments(request)
    values(request)
    hostport.check(request.port_mappings)


def values(request: AttachRequest) -> dict[str, object]:
    """Return the values in the request for capabilities, by the capability's name."""
    dns = {"servers": request.dns_servers, "searches": request.dns_searches, "options": request.dns_options}
    found: dict[str, object] = {
        "portMappings": [
            _port_mapping(mapping, f"port_mappings[{index}]")
            for index, mapping in enumerate(request.port_mappings)
            if mapping.host_port  # 0: a container's port that the host does not forward
        ],
        "bandwidth": _bandwidth(request.annotations),
        "dns": {key: list(value) for key, value in dns.items() if value},
        "ips": _ips(request.annotations),
        "mac": _mac(request.annotations),
        "cgroupPath": request.cgroup_parent,
        "io.kubernetes.cri.pod-annotations": dict(request.annotations),
    }
    return {name: value for name, value in found.items() if value}


def bits_per_second(text: str, where: str) -> int:
    """Return a Kubernetes quantity in bits per second. InvalidInput unless it is 1k to 1P, the range that the kubelet
    accepts."""
    match = _QUANTITY.fullmatch(text)
    if not match:
        raise InvalidInput(f"{where}: {text[:80]!r} is not a quantity", hint="write it as 10M or 1Gi")
    number, unit = match.group(1), match.group(2) or ""
    factor = _UNITS[unit] if unit in _UNITS else 10 ** int(unit[1:])
    bits = int(Decimal(number) * factor)
    if not 10**3 <= bits <= 10**15:
        raise InvalidInput(f"{where}: {text[:80]!r} is not between 1k and 1P")
    return bits


def _bandwidth(annotations: dict[str, str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for annotation, name in ((_INGRESS, "ingress"), (_EGRESS, "egress")):
        if annotation in annotations:
            found[f"{name}Rate"] = bits_per_second(annotations[annotation], f"annotations[{annotation}]")
            found[f"{name}Burst"] = _BURST
    return found


def _ips(annotations: dict[str, str]) -> list[str]:
    """Return the addresses that the pod requests, with prefix lengths; commas separate them in the annotation."""
    found = [part.strip() for part in annotations.get(_IPS, "").split(",") if part.strip()]
    for each in found:
        try:
            ipaddress.ip_interface(each)
        except ValueError as error:
            raise InvalidInput(f"annotations[{_IPS}]: {each[:80]!r} is not an address such as '10.1.2.3/24'") from error
    if len(found) > _MOST_IPS:
        raise InvalidInput(f"annotations[{_IPS}]: {len(found)} addresses are more than {_MOST_IPS}")
    return found


def _mac(annotations: dict[str, str]) -> str:
    text = annotations.get(_MAC, "")
    if text and not _MAC_FORM.fullmatch(text):
        raise InvalidInput(f"annotations[{_MAC}]: {text[:80]!r} is not the hardware address of one interface")
    return text


def _port_mapping(mapping: PortMapping, where: str) -> dict[str, object]:
    for name, port in (("container_port", mapping.container_port), ("host_port", mapping.host_port)):
        if not 1 <= port <= 65535:
            raise InvalidInput(f"{where}.{name}: {port} is not a port", hint="ports are 1 to 65535")
    if mapping.host_ip:
        try:
            ipaddress.ip_address(mapping.host_ip)
        except ValueError as error:
            raise InvalidInput(f"{where}.host_ip: {mapping.host_ip[:80]!r} is not an address") from error
    return {
        "hostPort": mapping.host_port,
        "containerPort": mapping.container_port,
        "protocol": mapping.protocol,
        "hostIP": mapping.host_ip,
    }


def _plain(text: str, where: str) -> str:
    if not _ARGUMENT.fullmatch(text):
        raise InvalidInput(f"{where}: {text[:80]!r} has a character that CNI arguments cannot carry")
    return text
