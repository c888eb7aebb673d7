"""registries.conf: endpoints in order."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernel.errors import FailedPrecondition, InvalidInput
from kernel.reference import parse as reference
from services.image.registries import Registries, parse, plan

DIGEST = "sha256:" + "0123456789abcdef" * 4


def places(text: str, image: str) -> list[str]:
    """Endpoints as `host/path`, marked `!` where insecure and `-` where credentials stay away."""
    return [
        f"{found.host}/{found.path}{'!' if found.insecure else ''}{'' if found.credentials else '-'}"
        for found in plan(reference(image), parse(text, "registries.conf"))
    ]


CONF = """
unqualified-search-registries = ["ignored.example"]
short-name-mode = "enforcing"
[aliases]
x = "y"
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


def test_a_blocked_registry_is_named() -> None:
    with pytest.raises(FailedPrecondition, match=r"blocked\.example is blocked"):
        places(CONF, "blocked.example/x")


@pytest.mark.parametrize(
    "text",
    [
        "[[registry]]\n",
        "[[registry]]\nlocation = 5\n",
        "[[registry]\n",
        '[[registry]]\nlocation = "https://x"\n',
        '[[registry]]\nlocation = "a b"\n',
        '[[registry]]\nlocation = "a"\n[[registry.mirror]]\nlocation = "b"\npull-from-mirror = "never"\n',
        "registry = 1\n",
    ],
)
def test_refuses_files(text: str) -> None:
    with pytest.raises(FailedPrecondition, match="some file"):
        parse(text, "some file")


def test_a_location_that_is_no_repository() -> None:
    with pytest.raises(InvalidInput, match=r"registries\.conf leads to"):
        places('[[registry]]\nprefix = "a.example"\nlocation = "b.example/UPPER"\n', "a.example/x")


def test_rereads_what_changed(tmp_path: Path) -> None:
    file = tmp_path / "registries.conf"
    registries = Registries(file)
    assert registries.rules() == {}
    file.write_text('[[registry]]\nlocation = "a.example"\nblocked = true\n')
    assert registries.rules()["a.example"].blocked
    drop_in = tmp_path / "registries.conf.d" / "50-a.conf"
    drop_in.parent.mkdir()
    drop_in.write_text('[[registry]]\nlocation = "a.example"\ninsecure = true\n')
    assert not registries.rules()["a.example"].blocked
    assert registries.rules()["a.example"].insecure


def test_a_file_that_goes_bad_leaves_the_last_good_rules(tmp_path: Path) -> None:
    file = tmp_path / "registries.conf"
    file.write_text("no toml")
    registries = Registries(file)
    for _ in range(2):
        with pytest.raises(FailedPrecondition, match=r"registries\.conf"):
            registries.rules()
    file.write_text('[[registry]]\nlocation = "a.example"\n')
    good = registries.rules()
    file.write_text("no toml again")
    assert registries.rules() == good
