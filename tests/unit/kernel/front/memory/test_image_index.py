"""Images are found by every name that they have now, and by no name that they had."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from kernel.errors import InvalidInput
from kernel.formats.reference import parse
from kernel.front.memory.image_index import ImageIndex
from kernel.ids import Digest, ImageId
from tests.harness.fakes.pod_workers import IMAGE

TAG = "docker.io/library/box:latest"
ONE = replace(IMAGE, id=ImageId(Digest("sha256:" + "ab" * 32)), tags=(TAG,), digests=(f"{TAG[:-7]}@sha256:{'1' * 64}",))
TWO = replace(ONE, id=ImageId(Digest("sha256:" + "ab" * 31 + "cd")), tags=("x.io/two:1",), digests=())


@pytest.fixture
def index() -> ImageIndex:
    found = ImageIndex()
    found.put(ONE)
    found.put(TWO)
    return found


@pytest.mark.parametrize(
    "name", [TAG, "box", "library/box", ONE.id, ONE.id[7:], ONE.digests[0], f"box@sha256:{'1' * 64}"]
)
def test_every_spelling_of_a_name(index: ImageIndex, name: str) -> None:
    assert index.find(name) is ONE


def test_a_beginning_of_an_id_must_be_of_one_image(index: ImageIndex) -> None:
    assert index.find("ab" * 31 + "c") is TWO
    assert index.find("sha256:" + "ab" * 32) is ONE
    assert index.find("abc") is None
    with pytest.raises(InvalidInput, match="more than one"):
        index.find("abab")
    with pytest.raises(InvalidInput, match="64 lower-case hex digits"):
        index.find("sha256:xyz")


def test_a_tag_belongs_to_the_image_that_got_it_last(index: ImageIndex) -> None:
    index.put(replace(TWO, tags=(TAG,)))
    assert index.find("box") == replace(TWO, tags=(TAG,))
    assert index.find("x.io/two:1") is None
    index.remove(ONE.id)  # the tag is not its own any more
    assert index.find("box") == replace(TWO, tags=(TAG,))
    index.remove(TWO.id)
    assert (index.find("box"), index.by_id) == (None, {})


def test_a_short_name_is_looked_up_by_what_it_may_mean(index: ImageIndex) -> None:
    index.expand = lambda text: (parse(f"y.io/{text}"), parse(f"x.io/{text}"))
    assert index.find("two:1") is TWO
