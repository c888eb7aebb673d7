"""Which object a name or the beginning of an id means."""

from __future__ import annotations

import pytest

from kernel.cli.lookup import Named, pick, pick_container
from kernel.errors import FailedPrecondition, InvalidInput, NotFound


def named(id_: str, name: str, *, live: bool = True, at: int = 1, pod: str = "", is_pod: bool = False) -> Named:
    return Named(id=id_, name=name, live=live, created_at=at, is_pod=is_pod, pod=pod)


OLD = named("aa1", "web", live=False, at=9)
NEW = named("aa2", "web", at=1, pod="bb1")
OTHER = named("cc3", "db", pod="bb1")
POD = named("bb1", "web", is_pod=True)


def test_id_then_name_then_beginning() -> None:
    everything = [OLD, NEW, OTHER, named("zz", "aa1")]
    assert pick(everything, "aa1", "x") is OLD
    assert pick(everything, "web", "x") is NEW
    assert pick(everything, "c", "x") is OTHER
    with pytest.raises(InvalidInput, match="2 ids"):
        pick(everything, "aa", "x")
    for missing in ("none", ""):
        with pytest.raises(NotFound):
            pick(everything, missing, "x")


def test_pods_or_containers_first() -> None:
    assert pick([NEW, POD], "web", "x") is POD
    assert pick([NEW, POD], "web", "x", pods_first=False) is NEW


def test_the_only_container_of_a_pod() -> None:
    pod = named("dd4", "mine", is_pod=True)
    inside = named("ee5", "main", pod="dd4")
    assert pick_container([inside, named("ff6", "done", live=False, pod="dd4")], [pod], "mine") is inside
    with pytest.raises(FailedPrecondition, match="a, b"):
        pick_container([named("1", "b", pod="dd4"), named("2", "a", pod="dd4")], [pod], "mine")
    with pytest.raises(NotFound, match="no container"):
        pick_container([], [pod], "mine")
