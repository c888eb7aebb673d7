from __future__ import annotations

import msgspec
import pytest

from kernel.contracts.runtime import NamespaceMode, PodRequest
from kernel.errors import FailedPrecondition
from kernel.ids import SandboxId
from services.runtime.node import defaults

POD = PodRequest(sandbox_id=SandboxId("a" * 64), name="pod", namespace="ns", uid="u")
UNLIMITED = (1 << 64) - 1


def test_ulimits() -> None:
    assert defaults.rlimits(("nofile=10:20", "core=0", "stack=-1", "nproc=5:-1"), {}) == [
        {"type": "RLIMIT_NOFILE", "soft": 10, "hard": 20},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_STACK", "soft": UNLIMITED, "hard": UNLIMITED},
        {"type": "RLIMIT_NPROC", "soft": 5, "hard": UNLIMITED},
    ]


def test_ulimits_stay_below_what_cannot_be_raised() -> None:
    assert defaults.rlimits(("nofile=10:2000", "nproc=900"), {"nofile": 100, "nproc": 500}) == [
        {"type": "RLIMIT_NOFILE", "soft": 10, "hard": 100}, {"type": "RLIMIT_NPROC", "soft": 500, "hard": 500},
    ]  # fmt: skip


@pytest.mark.parametrize("wrong", ["nofile", "files=1", "nofile=1:x", "nofile=2:1", "nofile=-2", "nofile=1:2:3", ""])
def test_what_is_no_ulimit_is_refused(wrong: str) -> None:
    with pytest.raises(FailedPrecondition, match="default_ulimits"):
        defaults.rlimits((wrong,), {})


def test_variables() -> None:
    assert defaults.env(("A=1", "B=", "A=2=3")) == {"A": "2=3", "B": ""}
    for wrong in ("A", "=1", "A=\0"):
        with pytest.raises(FailedPrecondition, match="default_env"):
            defaults.env((wrong,))


def test_the_umask() -> None:
    assert defaults.umask("") is None
    assert defaults.umask("0027") == defaults.umask("027") == 0o27
    for wrong in ("27", "0888", "x", "00270"):
        with pytest.raises(FailedPrecondition, match="umask"):
            defaults.umask(wrong)


def test_sysctls_go_to_pods_with_the_namespace() -> None:
    given = {"net/ipv4/ip_forward": "1", "kernel.shmmax": "2", "fs.mqueue.msg_max": "3"}
    assert defaults.sysctls(given, POD) == {"net.ipv4.ip_forward": "1", "kernel.shmmax": "2", "fs.mqueue.msg_max": "3"}
    on_host = msgspec.structs.replace(POD, network=NamespaceMode.NODE, ipc=NamespaceMode.NODE)
    assert defaults.sysctls(given, on_host) == {}
    with pytest.raises(FailedPrecondition, match="default_sysctls"):
        defaults.sysctls({"kernel.core_pattern": "x"}, POD)


def test_the_time_zone() -> None:
    assert defaults.time_zone("") == ""
    assert defaults.time_zone("Local") == "/etc/localtime"
    assert defaults.time_zone("America/Argentina/Ushuaia") == "/usr/share/zoneinfo/America/Argentina/Ushuaia"
    for wrong in ("../../etc/shadow", "/etc/shadow", "Europe/", "a b"):
        with pytest.raises(FailedPrecondition, match="timezone"):
            defaults.time_zone(wrong)


def test_default_mounts() -> None:
    text = "# comment\n\n/src/a:/dst//a\n/both\n"
    assert defaults.mounts(text, "f") == [("/dst/a", "/src/a"), ("/both", "/both")]
    for wrong in ("a:/b", "/a:b", "/a:/", "/a:/../b", "/..:/b"):
        with pytest.raises(FailedPrecondition, match=r"mounts\.conf, line 1"):
            defaults.mounts(wrong, "/etc/mounts.conf")
