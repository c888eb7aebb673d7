"""Security profiles of a request: both generations of fields."""

from __future__ import annotations

import pytest

from kernel.contracts.runtime import Profile, SelinuxOptions
from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import InvalidInput
from kernel.front.requests import profiles

LOCALHOST = cri.SecurityProfile.Localhost


def context(**fields: object) -> cri.LinuxContainerSecurityContext:
    return cri.LinuxContainerSecurityContext(**fields)  # type: ignore[arg-type]


def profile(kind: int, ref: str = "") -> cri.SecurityProfile:
    return cri.SecurityProfile(profile_type=kind, localhost_ref=ref)  # type: ignore[arg-type]


def test_unset_is_not_the_default() -> None:
    assert profiles.seccomp("f", context()) is None
    assert profiles.apparmor("f", context()) is None
    assert profiles.selinux("f", context()) is None
    assert profiles.seccomp("f", context(seccomp=cri.SecurityProfile())) == Profile(kind="default", field="f.seccomp")


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("runtime/default", Profile(kind="default", field="f.seccomp_profile_path")),
        ("docker/default", Profile(kind="default", field="f.seccomp_profile_path")),
        ("unconfined", Profile(kind="unconfined", field="f.seccomp_profile_path")),
        ("localhost//x/y.json", Profile(kind="localhost", ref="/x/y.json", field="f.seccomp_profile_path")),
    ],
)
def test_the_deprecated_fields(path: str, found: Profile) -> None:
    assert profiles.seccomp("f", context(seccomp_profile_path=path)) == found
    assert profiles.seccomp("f", cri.LinuxSandboxSecurityContext(seccomp_profile_path=path)) == found
    other = profiles.apparmor("f", context(apparmor_profile=path))
    assert other == Profile(kind=found.kind, ref=found.ref, field="f.apparmor_profile")


def test_the_new_field_counts_before_the_deprecated_one() -> None:
    given = context(
        seccomp=profile(LOCALHOST, "a.json"), seccomp_profile_path="unconfined",
        apparmor=profile(cri.SecurityProfile.Unconfined), apparmor_profile="localhost/x",
    )  # fmt: skip
    seccomp, apparmor = profiles.seccomp("f", given), profiles.apparmor("f", given)
    assert seccomp == Profile(kind="localhost", ref="a.json", field="f.seccomp.localhost_ref")
    assert apparmor == Profile(kind="unconfined", field="f.apparmor")


FAULTS = [
    ("f.seccomp.profile_type", context(seccomp=profile(7))),
    ("f.seccomp.localhost_ref", context(seccomp=profile(LOCALHOST))),
    ("f.seccomp.localhost_ref", context(seccomp=profile(LOCALHOST, "a/../../b"))),
    ("f.seccomp.localhost_ref", context(seccomp=profile(LOCALHOST, "a\0"))),
    ("f.seccomp.localhost_ref", context(seccomp=profile(LOCALHOST, "x" * 5000))),
    ("f.seccomp_profile_path", context(seccomp_profile_path="localhost/../x")),
    ("f.seccomp_profile_path", context(seccomp_profile_path="strict")),
    ("f.apparmor.profile_type", context(apparmor=profile(-1))),
    ("f.apparmor.localhost_ref", context(apparmor=profile(LOCALHOST, "a\nb"))),
    ("f.apparmor_profile", context(apparmor_profile="localhost/")),
    ("f.apparmor_profile", context(apparmor_profile="complain")),
    ("f.selinux_options.user", context(selinux_options=cri.SELinuxOption(user="a:b"))),
    ("f.selinux_options.type", context(selinux_options=cri.SELinuxOption(type="a\0"))),
    ("f.selinux_options.level", context(selinux_options=cri.SELinuxOption(level="s0 c1"))),
]


@pytest.mark.parametrize(
    ("field", "given"), FAULTS, ids=[f"{index}-{field}" for index, (field, _) in enumerate(FAULTS)]
)
def test_the_wrong_field_is_named(field: str, given: cri.LinuxContainerSecurityContext) -> None:
    with pytest.raises(InvalidInput) as caught:
        profiles.check("f", given)
    assert caught.value.message.startswith(f"{field}: ")


def test_selinux_options_pass_as_they_are() -> None:
    given = context(selinux_options=cri.SELinuxOption(type="spc_t", level="s0:c1,c2"))
    assert profiles.selinux("f", given) == SelinuxOptions(type="spc_t", level="s0:c1,c2")
