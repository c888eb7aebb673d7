"""Which sysctls of a pod pass: only those of its own namespaces."""

from __future__ import annotations

import pytest

from kernel.contracts.runtime import NamespaceMode
from kernel.errors import InvalidInput
from kernel.front.requests import sysctls

POD, NODE = NamespaceMode.POD, NamespaceMode.NODE


def test_sysctls_of_the_pods_namespaces_pass_in_both_spellings() -> None:
    given = {"net.ipv4.ip_unprivileged_port_start": "0", "kernel/shm_rmid_forced": "1", "net/ipv4/conf/eth0.1/arp": "1"}
    assert sysctls.plan(given, network=POD, ipc=POD) == given


@pytest.mark.parametrize(
    "given",
    [
        {"kernel.core_pattern": "|/x"},
        {"net/ipv4/../../kernel/core_pattern": "x"},
        {"kernel.shm_rmid_forced": "1+kernel.core_pattern=x"},
        {"kernel.shm_rmid_forced": "1\nx"},
    ],
)
def test_any_other_is_refused_by_name(given: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match=r"config\.linux\.sysctls\["):
        sysctls.plan(given, network=POD, ipc=POD)


def test_a_sysctl_of_the_host_is_refused() -> None:
    with pytest.raises(InvalidInput, match="would change the host"):
        sysctls.plan({"net.ipv4.ip_forward": "1"}, network=NODE, ipc=POD)
    with pytest.raises(InvalidInput, match="would change the host"):
        sysctls.plan({"kernel.sem": "1"}, network=POD, ipc=NODE)
