"""registries.d: which place is said for which image."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernel.errors import FailedPrecondition
from kernel.formats.reference import parse as ref
from services.image.signatures.registries_d import RegistriesD, SignaturePlaces, find, parse

TEXT = """
default-docker:
  lookaside: https://default.example/store/
docker:
  registry.example:5000:
    use-sigstore-attachments: true
  registry.example:5000/team:
    sigstore: file:///srv/team
  registry.example:5000/team/app:v1:
    lookaside: http://127.0.0.1:1/one
    use-sigstore-attachments: false
  "*.wild.example":
    use-sigstore-attachments: true
    lookaside-staging: file:///elsewhere
"""


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("other.example/app", SignaturePlaces("https://default.example/store", False)),
        ("registry.example:5000/app", SignaturePlaces("https://default.example/store", True)),
        ("registry.example:5000/team/app", SignaturePlaces("file:///srv/team", True)),
        ("registry.example:5000/team/app:v1", SignaturePlaces("http://127.0.0.1:1/one", False)),
        ("registry.example:5000/team/app:v2", SignaturePlaces("file:///srv/team", True)),
        ("registry.example:5000/teams/app", SignaturePlaces("https://default.example/store", True)),
        ("registry.example/team/app", SignaturePlaces("https://default.example/store", False)),
        ("a.b.wild.example:1/app", SignaturePlaces("https://default.example/store", True)),
        ("wild.example/app", SignaturePlaces("https://default.example/store", False)),
    ],
)
def test_the_narrowest_scope_that_says_something_counts(image: str, expected: SignaturePlaces) -> None:
    assert find(parse({"a.yaml": TEXT}), ref(image)) == expected


def test_nothing_said_is_no_place() -> None:
    assert find(parse({}), ref("busybox")) == SignaturePlaces()
    assert find(parse({"a.yaml": ""}), ref("busybox")) == SignaturePlaces()


@pytest.mark.parametrize(
    "files",
    [
        {"a.yaml": "docker: {a.example: {}}", "b.yaml": "docker: {a.example: {}}"},
        {"a.yaml": "default-docker: {}", "b.yaml": "default-docker: {}"},
        {"a.yaml": "docker: []"},
        {"a.yaml": "docker: {a.example: {lookaside: [1]}}"},
        {"a.yaml": "docker: {a.example: {lookaside: 'ftp://a.example'}}"},
        {"a.yaml": "docker: {a.example: {lookaside: 'file://relative'}}"},
        {"a.yaml": "docker: {a.example: {lookaside: 'https://user:secret@a.example'}}"},
        {"a.yaml": "docker: {"},
        {"a.yaml": "!!python/object:os.system x"},
    ],
)
def test_what_does_not_read_is_named(files: dict[str, str]) -> None:
    with pytest.raises(FailedPrecondition, match=r"^[ab]\.yaml"):
        parse(files)


def test_a_folder_is_read_again_when_it_changes(tmp_path: Path) -> None:
    folder = RegistriesD(tmp_path / "registries.d")
    assert folder.places(ref("busybox")) == SignaturePlaces()
    (tmp_path / "registries.d").mkdir()
    (tmp_path / "registries.d" / "a.yaml").write_text("default-docker: {use-sigstore-attachments: true}")
    assert folder.places(ref("busybox")) == SignaturePlaces("", True)
    (tmp_path / "registries.d" / "a.yaml").write_text("default-docker: [")
    for _ in range(2):
        with pytest.raises(FailedPrecondition, match=r"a\.yaml cannot be parsed"):
            folder.places(ref("busybox"))
    os.unlink(tmp_path / "registries.d" / "a.yaml")
    assert folder.places(ref("busybox")) == SignaturePlaces()
