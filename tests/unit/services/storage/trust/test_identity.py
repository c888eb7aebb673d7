"""Which names in a signature are the image's."""

from __future__ import annotations

import pytest

from kernel.errors import InvalidInput
from kernel.formats import reference
from services.storage.trust import identity
from services.storage.trust.identity import (
    ExactReference,
    ExactRepository,
    MatchExact,
    MatchRepoDigestOrExact,
    MatchRepository,
    RemapIdentity,
)

ONE, TWO = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"
REMAP = RemapIdentity(prefix="mirror:5000/vendor", signed_prefix="vendor.example")


@pytest.mark.parametrize(
    ("rule", "image", "claimed", "accepted"),
    [
        (MatchExact(), "example.com/app:v1", "example.com/app:v1", True),
        (MatchExact(), "example.com/app:v1", "example.com/app:v2", False),
        (MatchExact(), "example.com/app:v1", "example.com/app", False),
        (MatchExact(), "example.com/app:v1", "example.com/other:v1", False),
        (MatchExact(), f"example.com/app@{ONE}", "example.com/app:v1", False),
        (MatchExact(), f"example.com/app@{ONE}", f"example.com/app@{ONE}", True),
        (MatchExact(), "busybox", "docker.io/library/busybox:latest", True),
        (MatchExact(), "busybox", "busybox:latest", True),
        (MatchExact(), "busybox", "busybox", False),
        (MatchRepoDigestOrExact(), "example.com/app:v1", "example.com/app:v1", True),
        (MatchRepoDigestOrExact(), "example.com/app:v1", "example.com/app:v2", False),
        (MatchRepoDigestOrExact(), f"example.com/app@{ONE}", "example.com/app:v2", True),
        (MatchRepoDigestOrExact(), f"example.com/app:v1@{ONE}", "example.com/app:v2", True),
        (MatchRepoDigestOrExact(), f"example.com/app@{ONE}", f"example.com/app@{TWO}", True),
        (MatchRepoDigestOrExact(), f"example.com/app@{ONE}", "example.com/app", False),
        (MatchRepoDigestOrExact(), f"example.com/app@{ONE}", "example.com/application:v1", False),
        (MatchRepository(), "example.com/app:v1", "example.com/app:v2", True),
        (MatchRepository(), "example.com/app:v1", "example.com/app", True),
        (MatchRepository(), "example.com/app:v1", "example.com/app/sub:v1", False),
        (MatchRepository(), "example.com/app:v1", "example.com:5000/app:v1", False),
        (ExactReference(docker_reference="a.example/x:1"), "b.example/y:2", "a.example/x:1", True),
        (ExactReference(docker_reference="a.example/x:1"), "b.example/y:2", "a.example/x:2", False),
        (ExactReference(docker_reference="a.example/x:1"), "b.example/y:2", "b.example/y:2", False),
        (ExactRepository(docker_repository="a.example/x"), "b.example/y:2", "a.example/x:7", True),
        (ExactRepository(docker_repository="a.example/x"), "b.example/y:2", "a.example/x", True),
        (ExactRepository(docker_repository="a.example/x"), "b.example/y:2", "a.example/z:7", False),
        (REMAP, "mirror:5000/vendor/app:v1", "vendor.example/app:v1", True),
        (REMAP, "mirror:5000/vendor/app:v1", "mirror:5000/vendor/app:v1", False),
        (REMAP, "mirror:5000/vendors/app:v1", "vendor.example/app:v1", False),
        (REMAP, "mirror:5000/vendors/app:v1", "mirror:5000/vendors/app:v1", True),
        (REMAP, f"mirror:5000/vendor/app@{ONE}", "vendor.example/app:v9", True),
        (MatchRepository(), "example.com/app:v1", "no name at all", False),
        (MatchRepository(), "example.com/app:v1", "", False),
        (MatchRepository(), "example.com/app:v1", "Example.com/APP", False),
    ],
)
def test_a_name_is_matched_as_the_rule_has_it(rule: identity.Rule, image: str, claimed: str, accepted: bool) -> None:
    assert identity.matches(rule, reference.parse(image), claimed) is accepted


@pytest.mark.parametrize(
    "rule",
    [
        ExactReference(docker_reference="a.example/x"),
        ExactReference(docker_reference="A B"),
        ExactRepository(docker_repository="a.example/x:1"),
        RemapIdentity(prefix="a.example/x:1", signed_prefix="b.example"),
        RemapIdentity(prefix="a.example/", signed_prefix="b.example"),
        RemapIdentity(prefix="a.example", signed_prefix=""),
    ],
)
def test_a_rule_that_could_never_hold_is_refused(rule: identity.Rule) -> None:
    with pytest.raises(InvalidInput, match=r"^here\.signedIdentity|image reference"):
        identity.check(rule, "here.signedIdentity")
