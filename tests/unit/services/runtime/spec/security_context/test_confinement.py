from __future__ import annotations

import pytest

from kernel.config.sections import RuntimeSection
from kernel.contracts.runtime import Profile
from services.runtime.spec.security_context import confinement, seccomp_profile, seccomp_rules
from services.runtime.spec.security_context.confinement import Confinement

PLAIN = RuntimeSection()
STRICT = RuntimeSection(unset_seccomp="default", privileged_seccomp_profile="/etc/crisp/privileged.json")
NODES = Profile(kind="localhost", ref="x.json")


@pytest.mark.parametrize(
    ("asked", "privileged", "config", "source"),
    [
        (None, False, PLAIN, "none"),
        (None, False, STRICT, "default"),
        (Profile(kind="default"), False, PLAIN, "default"),
        (Profile(kind="unconfined"), False, STRICT, "none"),
        (NODES, False, PLAIN, "localhost"),
        (NODES, True, PLAIN, "none"),
        (Profile(kind="default"), True, PLAIN, "none"),
        (Profile(kind="unconfined"), True, STRICT, "privileged"),
    ],
)
def test_which_seccomp_profile_counts(
    asked: Profile | None, privileged: bool, config: RuntimeSection, source: str
) -> None:
    assert confinement.seccomp_source(asked, privileged=privileged, config=config) == source


def test_nothing_is_written_where_nothing_applies() -> None:
    assert confinement.process(Confinement()) == {}
    assert confinement.linux(Confinement(), ["CAP_CHOWN"]) == {}


def test_parts_of_the_specification() -> None:
    profile = seccomp_profile.parse(
        b'{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["chroot"], "action": "SCMP_ACT_ALLOW",'
        b' "includes": {"caps": ["CAP_SYS_CHROOT"]}}]}', "x",
    )  # fmt: skip
    found = Confinement(
        seccomp=profile, machine=seccomp_rules.machine("x86_64", "6.1"), apparmor="profile", process_label="a:b:c:s0",
        mount_label="a:b:d:s0",
    )  # fmt: skip
    assert confinement.process(found) == {"apparmorProfile": "profile", "selinuxLabel": "a:b:c:s0"}
    linux = confinement.linux(found, ["CAP_SYS_CHROOT"])
    assert linux["mountLabel"] == "a:b:d:s0"
    assert linux["seccomp"] == {
        "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["chroot"], "action": "SCMP_ACT_ALLOW"}],
    }  # fmt: skip
    assert confinement.linux(found, [])["seccomp"] == {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": []}
