"""registries.conf: endpoints in order."""

from __future__ import annotations

import pytest

from kernel.errors import FailedPrecondition, InvalidInput
from kernel.formats.reference import parse as reference
from kernel.formats.registries_conf import merge, parse
from services.image.registry.registries import plan

DIGEST = "sha256:" + "0123456789abcdef" * 4


def places(text: str, image: str) -> list[str]:
    """Endpoints as `host/path`, marked `!` where insecure and `-` where credentials stay away."""
    return [
        f"{found.host}/{found.path}{'!' if found.insecure else ''}{'' if found.credentials else '-'}"
        for found in plan(reference(image), merge([parse(text, "registries.conf")]).registries)
    ]


CONF = """
unqualified-search-registries = ["ignored.example"]
short-name-mode = "enforcing"
[aliases]
x = "y.example/z"
[[registry]]
prefix = "a.example/team"
location = "b.example/other"
[[registry]]
prefix = "a.example/team/deep"
location = "c.example"
insecure = true
[[registry]]
location = "blocked.example"
blocked = true
[[registry]]
prefix = "*.blocked.example"
blocked = true
[[registry]]
prefix = "*.wild.example"
[[registry.mirror]]
location = "mirror.example/wild"
[[registry]]
prefix = "*.sub.wild.example"
location = "one.example"
[[registry]]
prefix = "docker.io"
location = "docker.io"
[[registry.mirror]]
location = "127.0.0.1:5000/hub"
[[registry.mirror]]
location = "plain.example"
insecure = true
[[registry]]
location = "modes.example"
[[registry.mirror]]
location = "digest.example"
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "tag.example"
pull-from-mirror = "tag-only"
[[registry]]
location = "bydigest.example"
mirror-by-digest-only = true
[[registry.mirror]]
location = "m.example"
[[registry]]
prefix = "one.image.example/a/b:v1"
location = "two.image.example/c"
[[registry]]
location = "strict.local:1"
[[registry]]
location = "127.0.0.1:1"
insecure = false
"""


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("free.example/x", ["free.example/x"]),
        ("a.example/x", ["a.example/x"]),
        ("a.example/team/x", ["b.example/other/x"]),
        ("a.example/teamwork/x", ["a.example/teamwork/x"]),
        ("a.example/team", ["b.example/other"]),
        ("a.example/team/deep/x", ["c.example/x!"]),
        ("a.example:5000/team/x", ["a.example:5000/team/x"]),
        ("q.wild.example/x/y", ["mirror.example/wild/x/y", "q.wild.example/x/y"]),
        ("q.sub.wild.example/x", ["one.example/x"]),
        ("q.wild.example:5000/x", ["mirror.example/wild/x", "q.wild.example:5000/x"]),
        ("wild.example/x", ["wild.example/x"]),
        ("evilwild.example/x", ["evilwild.example/x"]),
        ("busybox", ["127.0.0.1:5000/hub/library/busybox!", "plain.example/library/busybox!-",
                     "registry-1.docker.io/library/busybox"]),
        ("modes.example/x:1", ["tag.example/x", "modes.example/x"]),
        (f"modes.example/x@{DIGEST}", ["digest.example/x", "modes.example/x"]),
        ("bydigest.example/x", ["bydigest.example/x"]),
        (f"bydigest.example/x@{DIGEST}", ["m.example/x", "bydigest.example/x"]),
        ("one.image.example/a/b:v1", ["two.image.example/c"]),
        ("one.image.example/a/b:v10", ["one.image.example/a/b"]),
        ("localhost:5000/x", ["localhost:5000/x!"]),
        ("127.0.0.1:1/x", ["127.0.0.1:1/x"]),
        ("[::1]:5000/x", ["[::1]:5000/x!"]),
        ("Upper.example/x", ["upper.example/x"]),
    ],
)  # fmt: skip
def test_plans(image: str, expected: list[str]) -> None:
    assert places(CONF, image) == expected


@pytest.mark.parametrize(
    "image", ["blocked.example/x", "deep.a.blocked.example:444/x/y", f"blocked.example/x@{DIGEST}"]
)
def test_a_blocked_registry_is_named(image: str) -> None:
    with pytest.raises(FailedPrecondition, match=r"blocked\.example is blocked"):
        places(CONF, image)


def test_a_location_that_is_no_repository() -> None:
    with pytest.raises(InvalidInput, match=r"registries\.conf leads to"):
        places('[[registry]]\nprefix = "a.example"\nlocation = "b.example/UPPER"\n', "a.example/x")
