from __future__ import annotations

from typing import cast

import msgspec
import pytest

from kernel.contracts import oci
from kernel.contracts.runtime import NamespaceMode, Security
from kernel.errors import InvalidInput
from services.runtime.spec.inputs import DeviceNode, Place, Spec
from services.runtime.spec.security_context.capabilities import NAMES
from tests.unit.services.runtime.spec.samples import HOST, PLACE, POD, change, differing, part, plan


def namespaces(spec: Spec) -> dict[str, str]:
    return {
        entry["type"]: entry.get("path", "")
        for entry in cast("list[dict[str, str]]", part(spec, "linux")["namespaces"])
    }


def test_namespaces() -> None:
    assert namespaces(plan()) == {"mount": "", "network": "/n/net", "uts": "/n/uts", "ipc": "/n/ipc", "pid": ""}
    pod = msgspec.structs.replace(POD, network=NamespaceMode.NODE, ipc=NamespaceMode.NODE, sysctls={})
    assert namespaces(plan(change(security=Security(pid=NamespaceMode.NODE)), pod)) == {"mount": ""}
    joined = Place(**{**{name: getattr(PLACE, name) for name in Place.__slots__}, "pid": "/proc/7/ns/pid"})
    assert namespaces(plan(change(security=Security(pid=NamespaceMode.POD)), place=joined))["pid"] == "/proc/7/ns/pid"
    v2 = differing(HOST, unified=True)
    assert "cgroup" in namespaces(plan(host=v2))


def test_masked_and_read_only_paths() -> None:
    linux = part(plan(), "linux")
    assert linux["maskedPaths"] == list(oci.MASKED_PATHS)
    assert linux["readonlyPaths"] == list(oci.READONLY_PATHS)
    linux = part(plan(change(security=Security(masked_paths=(), readonly_paths=("/a",)))), "linux")
    assert (linux["maskedPaths"], linux["readonlyPaths"]) == ([], ["/a"])
    for path in ("", "a", "/a/../b", "/a/"):
        with pytest.raises(InvalidInput, match=r"masked_paths\[0\]"):
            plan(change(security=Security(masked_paths=(path,))))


def test_a_privileged_container() -> None:
    node = DeviceNode(path="/dev/x", kind="c", major=1, minor=2, mode=0o600, uid=0, gid=0)
    place = Place(**{**{name: getattr(PLACE, name) for name in Place.__slots__}, "devices": (node,)})
    spec = plan(change(security=Security(privileged=True)), place=place)
    linux = part(spec, "linux")
    assert "maskedPaths" not in linux
    assert part(linux, "resources")["devices"] == [{"allow": True, "access": "rwm"}]
    assert len(cast("list[str]", part(spec, "process", "capabilities")["bounding"])) == len(NAMES)
    plain = cast("list[Spec]", part(plan(place=place), "linux", "resources")["devices"])
    assert [rule["allow"] for rule in plain] == [False, True]


def test_sysctls_go_into_the_container() -> None:
    assert part(plan(), "linux")["sysctl"] == {"net.ipv4.ip_forward": "1"}
