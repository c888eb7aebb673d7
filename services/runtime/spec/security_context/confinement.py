"""A container's confinement beside its namespaces, as fields of the OCI specification. Pure.

These are seccomp (config-linux.md, Seccomp), AppArmor and SELinux (config.md, Linux Process; config-linux.md, Mount
Label). `security.profiles` finds them on the host. A field that would be empty is left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from kernel.config.sections import RuntimeSection
from kernel.contracts.runtime import Profile
from services.runtime.spec.security_context import seccomp_rules
from services.runtime.spec.security_context.seccomp_profile import SeccompProfile
from services.runtime.spec.security_context.seccomp_rules import Machine, Section

SeccompSource = Literal["none", "default", "privileged", "localhost"]
"""The source of a container's profile: none, the node's default, the one for privileged containers, or a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """A container's profiles and labels; the empty one confines nothing."""

    seccomp: SeccompProfile | None = None
    machine: Machine | None = None
    """The machine that the seccomp profile is resolved for."""
    apparmor: str = ""
    """Name of a loaded profile."""
    process_label: str = ""
    """SELinux label of the container's processes."""
    mount_label: str = ""
    """SELinux label of the container's files."""


def seccomp_source(requested: Profile | None, *, privileged: bool, config: RuntimeSection) -> SeccompSource:
    """Return the source of the profile that linux.security_context.seccomp requests.

    In a privileged container the field has no effect, as with other runtimes.
    """
    if privileged:
        return "privileged" if config.privileged_seccomp_profile else "none"
    kind = requested.kind if requested is not None else config.unset_seccomp
    if kind == "unconfined":
        return "none"
    return "localhost" if kind == "localhost" else "default"


def process(confinement: Confinement) -> Section:
    """Return the fields `apparmorProfile` and `selinuxLabel` of `process`."""
    fields = {"apparmorProfile": confinement.apparmor, "selinuxLabel": confinement.process_label}
    return {key: value for key, value in fields.items() if value}


def linux(confinement: Confinement, capabilities: Iterable[str]) -> Section:
    """Return the fields `seccomp` and `mountLabel` of `linux`.

    `capabilities`: the container's, as CAP_NAME; rules of a profile may depend on them.
    """
    fields: Section = {}
    if confinement.seccomp is not None and confinement.machine is not None:
        fields["seccomp"] = seccomp_rules.resolve(confinement.seccomp, confinement.machine, frozenset(capabilities))
    if confinement.mount_label:
        fields["mountLabel"] = confinement.mount_label
    return fields
