"""Short names: aliases, the search list, the modes."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernel.errors import FailedPrecondition, InvalidInput
from kernel.formats.registries_conf import Conf, merge, parse
from kernel.front.memory.short_names import ShortNames, candidates, local

DIGEST = "sha256:" + "0123456789abcdef" * 4
ALIASES = '[aliases]\nfedora = "registry.fedora.example/fedora"\n"team/app" = "docker.io/mine"\n'
TWO = 'unqualified-search-registries = ["one.example", "docker.io", "one.example"]\n'


def conf(text: str) -> Conf:
    return merge([parse(text, "registries.conf")])


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("", "busybox", ["docker.io/library/busybox:latest"]),
        ("", "team/app:v1", ["docker.io/team/app:v1"]),
        (TWO, "full.example/x", ["full.example/x:latest"]),
        (TWO, "localhost/x", ["localhost/x:latest"]),
        (TWO, "docker.io/x", ["docker.io/library/x:latest"]),
        (TWO, "x:v1", ["one.example/x:v1", "docker.io/library/x:v1"]),
        (TWO, f"a/x@{DIGEST}", [f"one.example/a/x@{DIGEST}", f"docker.io/a/x@{DIGEST}"]),
        (TWO + ALIASES, "fedora", ["registry.fedora.example/fedora:latest"]),
        (TWO + ALIASES, "fedora:40", ["registry.fedora.example/fedora:40"]),
        (TWO + ALIASES, f"fedora:40@{DIGEST}", [f"registry.fedora.example/fedora:40@{DIGEST}"]),
        (TWO + ALIASES, "team/app", ["docker.io/library/mine:latest"]),
        (TWO + ALIASES, "library/fedora", ["one.example/library/fedora:latest", "docker.io/library/fedora:latest"]),
        ('short-name-mode = "disabled"\n' + TWO + ALIASES, "fedora", ["registry.fedora.example/fedora:latest"]),
        ('short-name-mode = "disabled"\n' + TWO, "x", ["one.example/x:latest", "docker.io/library/x:latest"]),
        ('short-name-mode = "enforcing"\nunqualified-search-registries = ["one.example:5000"]\n', "x",
         ["one.example:5000/x:latest"]),
    ],
)  # fmt: skip
def test_candidates(text: str, name: str, expected: list[str]) -> None:
    found = candidates(name, conf(text))
    assert [str(one) for one in found] == expected
    assert found == local(name, conf(text))


def test_what_enforcing_refuses_is_still_found_here() -> None:
    enforcing = conf('short-name-mode = "enforcing"\n' + TWO)
    with pytest.raises(FailedPrecondition, match=r"one\.example, docker\.io could have"):
        candidates("x", enforcing)
    assert [one.registry for one in local("x", enforcing)] == ["one.example", "docker.io"]


def test_an_empty_search_list_means_nothing() -> None:
    empty = conf("unqualified-search-registries = []\n")
    with pytest.raises(FailedPrecondition, match="names no registries to search"):
        candidates("x", empty)
    assert local("x", empty) == ()


@pytest.mark.parametrize("name", ["", "UPPER", "a b", "x:y:z", "../x"])
def test_malformed_names_are_malformed_everywhere(name: str) -> None:
    with pytest.raises(InvalidInput):
        candidates(name, conf(TWO))


async def test_changes_count_at_the_next_name(tmp_path: Path) -> None:
    file = tmp_path / "registries.conf"
    names = ShortNames(file)
    await names.refresh("x")
    assert str(names.candidates("x")[0]) == "docker.io/library/x:latest"
    file.write_text(TWO)
    await names.refresh("full.example/x")
    assert len(names.local("x")) == 1
    await names.refresh("x")
    assert len(names.candidates("x")) == 2
