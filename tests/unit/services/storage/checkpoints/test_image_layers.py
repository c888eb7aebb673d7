"""The parts of a checkpoint in an image's layers: the topmost counts, and nothing but plain files."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernel.errors import InvalidInput
from services.storage.checkpoints import image_layers


@pytest.fixture
def layers(tmp_path: Path) -> list[Path]:
    found = [tmp_path / name for name in ("lower", "upper")]
    for layer in found:
        (layer / "checkpoint").mkdir(parents=True)
        for name in ("config.dump", "spec.dump"):
            (layer / name).write_text(layer.name)
    (found[0] / "checkpoint" / "inventory.img").touch()
    (found[1] / "checkpoint" / "pages-1.img").touch()
    return found


def test_the_topmost_part_of_a_name_counts(layers: list[Path], tmp_path: Path) -> None:
    assert image_layers.describe(layers).config == b"upper"
    image_layers.copy(layers, tmp_path / "c")
    assert sorted(path.name for path in (tmp_path / "c" / "checkpoint").iterdir()) == ["inventory.img", "pages-1.img"]


def test_an_image_that_is_no_checkpoint(layers: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"no config\.dump"):
        image_layers.describe([])
    with pytest.raises(InvalidInput, match=r"no checkpoint/inventory\.img"):
        image_layers.copy(layers[1:], tmp_path / "c")
    (layers[1] / "checkpoint" / "a b").touch()
    with pytest.raises(InvalidInput, match="no file of CRIU's"):
        image_layers.copy(layers, tmp_path / "c")
    (layers[1] / "spec.dump").unlink()
    (layers[1] / "spec.dump").symlink_to("/etc/passwd")
    with pytest.raises(InvalidInput, match="not a plain file"):
        image_layers.describe(layers)
