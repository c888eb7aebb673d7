"""Which user namespaces are taken, and which field is named of those that are not."""

from __future__ import annotations

import pytest

from kernel.contracts.oci import IdMap, IdRange
from kernel.contracts.runtime import HandlerFact, Platform, PodRequest
from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import FailedPrecondition, InvalidInput
from kernel.front.requests import user_namespaces
from kernel.ids import SandboxId

MAP = IdMap(
    uids=IdRange(container_id=0, host_id=100000, length=65536),
    gids=IdRange(container_id=0, host_id=200000, length=65536),
)


def mapping(container_id: int = 0, host_id: int = 100000, length: int = 65536) -> cri.IDMapping:
    return cri.IDMapping(container_id=container_id, host_id=host_id, length=length)


def options(uids: list[cri.IDMapping] | None = None, **fields: object) -> cri.NamespaceOption:
    found = cri.NamespaceOption(pid=cri.CONTAINER)
    found.userns_options.mode = cri.POD
    found.userns_options.uids.extend([mapping()] if uids is None else uids)
    found.userns_options.gids.append(mapping(host_id=200000))
    for name, value in fields.items():
        setattr(found, name, value)
    return found


def test_a_pods_mapping() -> None:
    assert user_namespaces.of_pod("x", options()) == MAP


def test_none_is_asked_for() -> None:
    assert user_namespaces.of_pod("x", cri.NamespaceOption()) is None
    assert user_namespaces.of_pod("x", cri.NamespaceOption(userns_options=cri.UserNamespace(mode=cri.NODE))) is None


@pytest.mark.parametrize(
    ("field", "uids"),
    [
        (r"uids: are 0", []),
        (r"uids: are 2", [mapping(), mapping(host_id=300000)]),
        (r"uids\[0\]\.length", [mapping(length=0)]),
        (r"uids\[0\]\.host_id: is the host's root", [mapping(host_id=0)]),
        (r"uids\[0\]\.host_id", [mapping(host_id=0xFFFFFFFE, length=2)]),
        (r"uids\[0\]\.container_id", [mapping(container_id=1)]),
        (r"uids\[0\]\.container_id", [mapping(container_id=0xFFFFFFFF, length=1)]),
    ],
)
def test_mappings_that_cannot_be(field: str, uids: list[cri.IDMapping]) -> None:
    with pytest.raises(InvalidInput, match=rf"x\.userns_options\.{field}"):
        user_namespaces.of_pod("x", options(uids))


@pytest.mark.parametrize("mode", [cri.CONTAINER, cri.TARGET, 17])
def test_modes_that_cannot_be(mode: cri.NamespaceMode.ValueType) -> None:
    with pytest.raises(InvalidInput, match=r"x\.userns_options\.mode"):
        user_namespaces.of_pod("x", cri.NamespaceOption(userns_options=cri.UserNamespace(mode=mode)))


def test_a_mapping_beside_the_hosts_namespace() -> None:
    asked = options()
    asked.userns_options.mode = cri.NODE
    with pytest.raises(InvalidInput, match=r"x\.userns_options\.uids"):
        user_namespaces.of_pod("x", asked)


@pytest.mark.parametrize("which", ["pid", "ipc"])
def test_namespaces_of_the_host_beside_it(which: str) -> None:
    with pytest.raises(InvalidInput, match=rf"x\.{which}"):
        user_namespaces.of_pod("x", options(None, **{which: cri.NODE}))


def test_the_hosts_network_beside_it() -> None:
    assert user_namespaces.of_pod("x", options(None, network=cri.NODE)) == MAP


def test_a_container_says_what_its_pod_says_or_nothing() -> None:
    user_namespaces.check_container("c", cri.NamespaceOption(), options())
    user_namespaces.check_container("c", options(), options())
    for other in (cri.NamespaceOption(), options([mapping(length=5)])):
        with pytest.raises(InvalidInput, match=r"c\.userns_options"):
            user_namespaces.check_container("c", options(), other)


def test_a_handler_without_them() -> None:
    pod = PodRequest(sandbox_id=SandboxId("1" * 64), name="n", namespace="s", uid="u", user_namespace=MAP)
    able = Platform(cgroup_driver="cgroupfs", handlers=(HandlerFact(name="runc", version="1", user_namespaces=True),))
    user_namespaces.check_handler(pod, able, "runc")
    with pytest.raises(FailedPrecondition, match=r"userns_options: runtime handler 'crun'"):
        user_namespaces.check_handler(pod, able, "crun")
