from __future__ import annotations

import pytest

from kernel.contracts.runtime import NamespaceMode, PodRequest
from kernel.errors import InvalidInput
from kernel.ids import SandboxId
from services.runtime.spec.sysctl import check


def pod(sysctls: dict[str, str], **fields: object) -> PodRequest:
    return PodRequest(sandbox_id=SandboxId("a" * 64), name="n", namespace="s", uid="u", sysctls=sysctls, **fields)  # type: ignore[arg-type]


def test_keys_of_the_pods_namespaces() -> None:
    given = {"net.ipv4.ip_forward": "1", "kernel.sem": "1 2 3 4", "fs.mqueue.msg_max": "5", "kernel/shmmax": "9",
             "net/ipv4/conf/eth0.1/forwarding": "1"}  # fmt: skip
    assert check(pod(given)) == {
        "net.ipv4.ip_forward": "1", "kernel.sem": "1 2 3 4", "fs.mqueue.msg_max": "5", "kernel.shmmax": "9",
        "net.ipv4.conf.eth0/1.forwarding": "1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kernel.core_pattern", "|/x"),
        ("net/ipv4/../../kernel/core_pattern", "x"),
        ("net.ipv4.ip_forward", "1+kernel.core_pattern=x"),
        ("net.ipv4.ip_forward", "1\n2"),
        ("kernel.shm_evil", "1"),
        ("kernel.hostname", "x"),
        ("net", "1"),
        ("", "1"),
    ],
)
def test_others_are_refused(key: str, value: str) -> None:
    with pytest.raises(InvalidInput, match=r"linux\.sysctls"):
        check(pod({key: value}))


def test_none_in_the_hosts_namespaces() -> None:
    with pytest.raises(InvalidInput, match="host's network"):
        check(pod({"net.ipv4.ip_forward": "1"}, network=NamespaceMode.NODE))
    with pytest.raises(InvalidInput, match="host's IPC"):
        check(pod({"kernel.sem": "1"}, ipc=NamespaceMode.NODE))
