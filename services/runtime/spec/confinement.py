"""What confines a container beside its namespaces: seccomp, AppArmor, SELinux, as parts of its OCI specification. Pure.

`profiles` finds them on the host; here is where they go. Nothing is written where nothing applies.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from kernel.config.sections import RuntimeSection
from kernel.contracts.runtime import Profile
from services.runtime.spec.seccomp import Machine, Section, resolve
from services.runtime.spec.seccomp import Profile as SeccompProfile

SeccompSource = Literal["none", "default", "privileged", "localhost"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """A container's profiles and labels; the empty one confines nothing."""

    seccomp: SeccompProfile | None = None
    machine: Machine | None = None
    apparmor: str = ""
    process_label: str = ""
    mount_label: str = ""


def seccomp_source(asked: Profile | None, *, privileged: bool, config: RuntimeSection) -> SeccompSource:
    """Which profile counts. A privileged container's own wish does not, as with the peers."""
    if privileged:
        return "privileged" if config.privileged_seccomp_profile else "none"
    kind = asked.kind if asked is not None else config.unset_seccomp
    if kind == "unconfined":
        return "none"
    return "localhost" if kind == "localhost" else "default"


def process(confinement: Confinement) -> Section:
    """Keys of the specification's `process`."""
    found = {"apparmorProfile": confinement.apparmor, "selinuxLabel": confinement.process_label}
    return {key: value for key, value in found.items() if value}


def linux(confinement: Confinement, capabilities: Iterable[str]) -> Section:
    """Keys of the specification's `linux`; the capabilities decide what a default profile allows."""
    found: Section = {}
    if confinement.seccomp is not None and confinement.machine is not None:
        found["seccomp"] = resolve(confinement.seccomp, confinement.machine, frozenset(capabilities))
    if confinement.mount_label:
        found["mountLabel"] = confinement.mount_label
    return found
