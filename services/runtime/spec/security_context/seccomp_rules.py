"""A seccomp profile as the OCI `linux.seccomp` of one container on one machine (config-linux.md, Seccomp). Pure."""

from __future__ import annotations

from dataclasses import dataclass

from services.runtime.spec.security_context.seccomp_profile import Rule, SeccompProfile, error_number, kernel_release

Section = dict[str, object]
_ARCHITECTURES = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
    "armv7l": ("arm", "SCMP_ARCH_ARM"),
    "i686": ("x86", "SCMP_ARCH_X86"),
    "ppc64le": ("ppc64le", "SCMP_ARCH_PPC64LE"),
    "riscv64": ("riscv64", "SCMP_ARCH_RISCV64"),
    "s390x": ("s390x", "SCMP_ARCH_S390X"),
}
"""The name in a profile's conditions, and libseccomp's name, by uname(2)'s name of a machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The properties of the host that a profile's conditions depend on."""

    architecture: str
    """uname(2)'s name of the machine: `x86_64`."""
    kernel: tuple[int, int]
    """The first two numbers of the kernel's release."""


def machine(architecture: str, release: str) -> Machine:
    """Return the machine with uname(2)'s `machine` and `release`."""
    return Machine(architecture=architecture, kernel=kernel_release(release))


def resolve(profile: SeccompProfile, machine: Machine, capabilities: frozenset[str]) -> Section:
    """Return `linux.seccomp` for a container that has `capabilities` (each as CAP_NAME) on this machine."""
    default = error_number(profile.default_action, profile.default_errno_ret, profile.default_errno)
    section: Section = {"defaultAction": profile.default_action}
    if default is not None:
        section["defaultErrnoRet"] = default
    if architectures := _architectures(profile, machine):
        section["architectures"] = architectures
    if profile.flags:
        section["flags"] = list(profile.flags)
    if profile.listener_path:
        section["listenerPath"] = profile.listener_path
        section["listenerMetadata"] = profile.listener_metadata
    section["syscalls"] = [
        _resolved(rule)
        for rule in profile.syscalls or ()
        if _holds(rule, machine, capabilities)
        # libseccomp refuses a rule that only repeats the default
        and (rule.action, error_number(rule.action, rule.errno_ret, rule.errno)) != (profile.default_action, default)
    ]
    return section


def _architectures(profile: SeccompProfile, host: Machine) -> list[str]:
    """Return the machine's architecture and those that it runs too; those named by the profile if it has no archMap."""
    if profile.arch_map is None:
        return list(profile.architectures or ())
    _, native = _ARCHITECTURES.get(host.architecture, ("", ""))
    for entry in profile.arch_map:
        if entry.architecture == native:
            return [native, *(entry.sub_architectures or ())]
    return [native] if native else []


def _holds(rule: Rule, host: Machine, capabilities: frozenset[str]) -> bool:
    """Return whether a rule's conditions hold: all of `includes` are met, and no part of `excludes` is."""
    alias, _ = _ARCHITECTURES.get(host.architecture, ("", ""))
    if condition := rule.excludes:
        if alias in (condition.arches or ()) or capabilities & set(condition.caps or ()):
            return False
        if condition.min_kernel and host.kernel >= kernel_release(condition.min_kernel):
            return False
    if condition := rule.includes:
        if condition.arches and alias not in condition.arches:
            return False
        if not capabilities >= set(condition.caps or ()):
            return False
        if condition.min_kernel and host.kernel < kernel_release(condition.min_kernel):
            return False
    return True


def _resolved(rule: Rule) -> Section:
    entry: Section = {"names": rule.system_calls, "action": rule.action}
    returned = error_number(rule.action, rule.errno_ret, rule.errno)
    if returned is not None:
        entry["errnoRet"] = returned
    if rule.args:
        entry["args"] = [
            {"index": one.index, "value": one.value, "valueTwo": one.value_two, "op": one.op} for one in rule.args
        ]
    return entry
