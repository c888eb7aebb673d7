"""Plans of overlay mounts, and what a mount table says."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernel.errors import FailedPrecondition, InvalidInput
from services.storage.roots import overlay
from services.storage.roots.overlay import MAX_LAYERS, OPTIONS, parse_overlays, plan_mount

FOLDER = Path("/c")


def lower(*layers: str) -> list[str]:
    plan = plan_mount([Path(layer) for layer in layers], Path("/nothing"), FOLDER, FOLDER / "rootfs")
    return [str(path) for path in plan.lower]


def test_the_topmost_layer_comes_first() -> None:
    assert lower("/1", "/2", "/3") == ["/3", "/2", "/1"]


def test_a_layer_that_comes_twice_counts_where_it_is_higher() -> None:
    assert lower("/1", "/2", "/1") == ["/1", "/2"]


def test_an_image_without_layers_has_an_empty_folder() -> None:
    assert lower() == ["/nothing"]


def test_more_layers_than_the_kernel_takes() -> None:
    with pytest.raises(FailedPrecondition):
        lower(*(f"/{number}" for number in range(MAX_LAYERS + 1)))


def test_the_writable_layer_lies_in_the_containers_folder() -> None:
    plan = plan_mount([Path("/1")], Path("/nothing"), FOLDER, FOLDER / "rootfs")
    assert (plan.upper, plan.work, plan.target) == (FOLDER / "upper", FOLDER / "work", FOLDER / "rootfs")


def test_layers_cannot_redirect() -> None:
    assert dict(OPTIONS).items() >= {"metacopy": "off", "redirect_dir": "nofollow"}.items()


def test_overlays_of_a_mount_table() -> None:
    table = (
        "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
        "30 22 0:31 / /a\\040b/rootfs rw,relatime shared:2 master:3 - overlay crisp rw,lowerdir=/x\n"
        "31 22 0:32 / /overlay rw - tmpfs overlay rw\n"
    )
    assert parse_overlays(table) == {"/a b/rootfs"}


def test_a_label_that_would_be_more_than_one_is_refused(tmp_path: Path) -> None:
    for label in ('a:b:c:s0"', "a:b:c:s0,userxattr=on", "a\nb"):
        plan = overlay.plan_read_only([tmp_path], tmp_path / "nothing", tmp_path / "target", label)
        with pytest.raises(InvalidInput, match="label"):
            overlay.attach(plan)


def test_a_volume_of_an_image_has_no_writable_layer() -> None:
    plan = overlay.plan_read_only([Path("/1"), Path("/2"), Path("/1")], Path("/nothing"), Path("/t"))
    assert plan.lower == (Path("/1"), Path("/2"), Path("/nothing"))  # the kernel wants two at least
    assert plan.writing == ()
    with pytest.raises(FailedPrecondition):
        overlay.plan_read_only([], Path("/nothing"), Path("/t"))
    with pytest.raises(FailedPrecondition):
        overlay.plan_read_only([Path(f"/{number}") for number in range(MAX_LAYERS)], Path("/nothing"), Path("/t"))
