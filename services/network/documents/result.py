"""Answers of plugins: success results of CNI 0.3.0 to 1.1.0 and error objects, checked strictly. Pure.

The formats are in section 5 of the CNI specification. A plugin is a third party's program: its answer becomes a pod's
addresses only if every field has its type and every address is one that a pod can have.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Literal

import msgspec

from kernel.errors import Internal
from services.network.documents.conflist import VERSIONS

Family = Literal["cni", "ipv4", "ipv6"]
"""The family of a pod's primary address; cni: that of the first address that the plugins gave."""
_MAX_IPS = 64


class Failure(msgspec.Struct, frozen=True):
    """The error object of the specification (section 5, Error)."""

    code: int
    msg: str = ""
    details: str = ""

    def text(self) -> str:
        """Return the error as one line for people."""
        parts = [part.strip() for part in (self.msg, self.details) if part.strip()]
        return "; ".join(parts) or f"error code {self.code} without a message"


class _Interface(msgspec.Struct, frozen=True):
    name: str
    mac: str = ""
    sandbox: str = ""


class _Ip(msgspec.Struct, frozen=True):
    address: str
    gateway: str | None = None
    interface: int | None = None


class _Route(msgspec.Struct, frozen=True):
    dst: str
    gw: str | None = None


class _Dns(msgspec.Struct, frozen=True):
    nameservers: list[str] | None = None
    domain: str = ""
    search: list[str] | None = None
    options: list[str] | None = None


class _Success(msgspec.Struct, frozen=True):
    cniVersion: str = ""
    interfaces: list[_Interface] | None = None
    ips: list[_Ip] | None = None
    routes: list[_Route] | None = None
    dns: _Dns | None = None


def failure(data: bytes) -> Failure | None:
    """Return the error object in a plugin's answer; None if the answer is not one."""
    try:
        found = msgspec.json.decode(data, type=Failure)
    except (msgspec.DecodeError, RecursionError):
        return None
    return found if found.code else None


def parse(data: bytes, cni_version: str) -> dict[str, object]:
    """Return a success result, converted to `cni_version`, the network's. Internal names the malformed field."""
    try:
        result = msgspec.json.decode(data, type=dict[str, object])
        checked = msgspec.convert(result, _Success)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Internal(f"malformed result: {error}") from error
    if checked.cniVersion and checked.cniVersion not in VERSIONS:
        raise Internal(f"malformed result: cniVersion {checked.cniVersion[:80]!r} is not supported")
    _check(checked)
    return _convert(result, cni_version)


def addresses(result: Mapping[str, object], family: Family = "cni") -> tuple[str, ...]:
    """Return the pod's addresses without their prefix length, the primary one first.

    That is the first address that the plugins gave, or the first of `family`. `result` is one that `parse` returned.
    """
    return tuple(str(ipaddress.ip_interface(each).ip) for each in interface_addresses(result, family))


def interface_addresses(result: Mapping[str, object], family: Family = "cni") -> tuple[str, ...]:
    """Return the same as `addresses`, but with their prefix length."""
    checked = msgspec.convert(result, _Success)
    interfaces = checked.interfaces or []
    inside = [
        ip for ip in checked.ips or [] if ip.interface is None or not interfaces or interfaces[ip.interface].sandbox
    ]
    if not inside:
        raise Internal("malformed result: it gives the pod no address")
    found = dict.fromkeys(str(ipaddress.ip_interface(ip.address)) for ip in inside)
    first = next((each for each in found if _is_of(each, family)), None)
    return (first, *(each for each in found if each != first)) if first else tuple(found)


def check_namespace(result: Mapping[str, object], netns: str) -> None:
    """Raise Internal if an address belongs to an interface in another namespace than `netns`, the pod's."""
    checked = msgspec.convert(result, _Success)
    interfaces = checked.interfaces or []
    for index, ip in enumerate(checked.ips or []):
        where = interfaces[ip.interface].sandbox if interfaces and ip.interface is not None else ""
        if where and _without_var(where) != _without_var(netns):
            raise Internal(f"malformed result: ips[{index}]: its interface is in {where[:80]!r}, not in {netns}")


def host_interfaces(result: Mapping[str, object]) -> tuple[str, ...]:
    """Return the names of the interfaces that the plugins made on the host's side."""
    checked = msgspec.convert(result, _Success)
    return tuple(each.name for each in checked.interfaces or [] if not each.sandbox and each.name)


def _without_var(path: str) -> str:
    return path.removeprefix("/var") if path.startswith("/var/run/") else path


def _is_of(address: str, family: Family) -> bool:
    return family == "cni" or ipaddress.ip_interface(address).version == (4 if family == "ipv4" else 6)


def _check(result: _Success) -> None:
    ips = result.ips or []
    if len(ips) > _MAX_IPS:
        raise Internal(f"malformed result: {len(ips)} addresses, at most {_MAX_IPS} make sense")
    for index, ip in enumerate(ips):
        _check_address(ip.address, f"ips[{index}].address")
        if ip.gateway:
            _check_gateway(ip.gateway, f"ips[{index}].gateway")
        if ip.interface is not None and not 0 <= ip.interface < max(len(result.interfaces or []), 1):
            raise Internal(f"malformed result: ips[{index}].interface: there is no interface {ip.interface}")
    for index, route in enumerate(result.routes or []):
        try:
            ipaddress.ip_network(route.dst, strict=False)
        except ValueError as error:
            raise Internal(f"malformed result: routes[{index}].dst: {error}") from error
    if result.dns:
        for text in (result.dns.domain, *(result.dns.nameservers or []), *(result.dns.search or [])):
            if not text.isprintable():
                raise Internal(f"malformed result: dns: {text[:80]!r} has a control character")


def _check_address(text: str, where: str) -> None:
    try:
        interface = ipaddress.ip_interface(text)
    except ValueError as error:
        raise Internal(f"malformed result: {where}: {error}") from error
    if "/" not in text or "%" in text:
        raise Internal(f"malformed result: {where}: {text[:80]!r} is not an address and prefix length")
    ip = interface.ip
    if ip.is_loopback or ip.is_unspecified or ip.is_multicast:
        raise Internal(f"malformed result: {where}: {text[:80]!r} is not an address that a pod can have")


def _check_gateway(text: str, where: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError as error:
        raise Internal(f"malformed result: {where}: {error}") from error


def _convert(result: dict[str, object], cni_version: str) -> dict[str, object]:
    """Return the result in another version. Versions differ in `ips[].version` alone, which exists before 1.0.0."""
    ips = result.get("ips")
    converted = {**result, "cniVersion": cni_version}
    if isinstance(ips, list):
        converted["ips"] = [_convert_ip(ip, old=cni_version.startswith("0.")) for ip in ips]
    return converted


def _convert_ip(ip: Mapping[str, object], *, old: bool) -> dict[str, object]:
    bare = {key: value for key, value in ip.items() if key != "version"}
    if not old:
        return bare
    return {**bare, "version": str(ipaddress.ip_interface(str(ip["address"])).version)}
