"""A profile resolved for a machine and a container, and the built-in profile."""

from __future__ import annotations

import errno
import json
from typing import cast

from services.runtime.security import seccomp_files
from services.runtime.spec.security_context import seccomp_profile, seccomp_rules
from services.runtime.spec.security_context.seccomp_rules import Machine, Section

X86 = seccomp_rules.machine("x86_64", "6.1.0-13-amd64")
ARM = seccomp_rules.machine("aarch64", "6.1.0")
OLD = seccomp_rules.machine("x86_64", "4.4.0")


def resolve(document: object, machine: Machine = X86, *capabilities: str) -> Section:
    profile = seccomp_profile.parse(json.dumps(document).encode(), "profile")
    return seccomp_rules.resolve(profile, machine, frozenset(capabilities))


def rule(name: str, **fields: object) -> dict[str, object]:
    return {"names": [name], "action": "SCMP_ACT_ALLOW", **fields}


def document(*rules: dict[str, object], **fields: object) -> dict[str, object]:
    return {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": list(rules), **fields}


def names(section: Section) -> list[str]:
    return [name for entry in cast("list[dict[str, list[str]]]", section["syscalls"]) for name in entry["names"]]


def test_an_oci_section_stays_as_it_is() -> None:
    given = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "listenerPath": "/run/listener",
        "listenerMetadata": "x",
        "syscalls": [
            {"names": ["a", "b"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5,
             "args": [{"index": 1, "value": 2**64 - 1, "valueTwo": 3, "op": "SCMP_CMP_MASKED_EQ"}]},
        ],
    }  # fmt: skip
    assert resolve(given) == given


def test_architectures_are_the_machines_and_what_it_runs_besides() -> None:
    arch_map = [
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
        {"architecture": "SCMP_ARCH_S390X"},
    ]
    assert resolve(document(archMap=arch_map))["architectures"] == [
        "SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32",
    ]  # fmt: skip
    assert resolve(document(archMap=arch_map), ARM)["architectures"] == ["SCMP_ARCH_AARCH64"]
    assert "architectures" not in resolve(document(archMap=[]), seccomp_rules.machine("vax", "6.0"))
    assert "architectures" not in resolve(document())


def test_conditions_of_a_rule() -> None:
    given = document(
        rule("chroot", includes={"caps": ["CAP_SYS_CHROOT"]}),
        rule("both", includes={"caps": ["CAP_A", "CAP_B"]}),
        rule("unless", excludes={"caps": ["CAP_A", "CAP_B"]}),
        rule("arch_prctl", includes={"arches": ["amd64", "x32"]}),
        rule("not_arm", excludes={"arches": ["arm64"]}),
        rule("ptrace", includes={"minKernel": "4.8"}),
        rule("older", excludes={"minKernel": "4.8"}),
        rule("plain", includes={}, excludes=None, args=None, comment="x"),
        {"name": "single", "action": "SCMP_ACT_ALLOW"},
    )
    assert names(resolve(given)) == ["unless", "arch_prctl", "not_arm", "ptrace", "plain", "single"]
    assert names(resolve(given, ARM, "CAP_SYS_CHROOT", "CAP_A")) == ["chroot", "ptrace", "plain", "single"]
    assert names(resolve(given, OLD, "CAP_A", "CAP_B")) == ["both", "arch_prctl", "not_arm", "older", "plain", "single"]


def test_errors_by_name_and_by_number() -> None:
    denied = {"names": ["x"], "action": "SCMP_ACT_ERRNO"}
    section = resolve(document({**denied, "errno": "EPERM"}, {**denied, "errnoRet": 5}, denied, defaultErrno="ENOSYS"))
    assert section["defaultErrnoRet"] == errno.ENOSYS
    rules = cast("list[dict[str, object]]", section["syscalls"])
    assert [entry.get("errnoRet") for entry in rules] == [1, 5, None]


def test_a_rule_that_repeats_the_default_is_left_out() -> None:
    repeated = {"names": ["x"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}
    assert names(resolve(document(repeated, rule("y"), defaultErrnoRet=38))) == ["y"]


def builtin(machine: Machine, *capabilities: str) -> dict[str, set[str]]:
    """Names by action of the built-in profile, those with conditions on arguments left out."""
    profile = seccomp_profile.parse(seccomp_files.BUILTIN.read_bytes(), "builtin")
    section = seccomp_rules.resolve(profile, machine, frozenset(capabilities))
    found: dict[str, set[str]] = {"SCMP_ACT_ALLOW": set(), "SCMP_ACT_ERRNO": set()}
    for entry in cast("list[dict[str, object]]", section["syscalls"]):
        if "args" not in entry:
            found[str(entry["action"])] |= set(cast("list[str]", entry["names"]))
    return found


def test_the_built_in_profile_by_capability() -> None:
    plain = builtin(X86, "CAP_CHOWN")
    dangerous = {"mount", "unshare", "setns", "bpf", "keyctl", "init_module", "kexec_load", "reboot", "io_uring_setup"}
    assert not dangerous & plain["SCMP_ACT_ALLOW"]
    assert dangerous <= plain["SCMP_ACT_ERRNO"]
    assert {"read", "execve", "clone", "futex"} - plain["SCMP_ACT_ALLOW"] == {"clone"}  # clone only without namespaces
    admin = builtin(X86, "CAP_SYS_ADMIN")
    assert {"mount", "unshare", "setns", "clone", "clone3", "bpf", "perf_event_open"} <= admin["SCMP_ACT_ALLOW"]
    assert {"keyctl", "init_module", "reboot", "chroot"} <= admin["SCMP_ACT_ERRNO"]
    assert "chroot" in builtin(X86, "CAP_SYS_CHROOT")["SCMP_ACT_ALLOW"]
    assert "arch_prctl" not in builtin(ARM)["SCMP_ACT_ALLOW"]
    for machine in (X86, ARM, OLD):
        for capabilities in ((), ("CAP_SYS_ADMIN",), ("CAP_BPF", "CAP_SYS_ADMIN", "CAP_PERFMON")):
            found = builtin(machine, *capabilities)
            assert not found["SCMP_ACT_ALLOW"] & found["SCMP_ACT_ERRNO"]
