"""Names that files of CRIU have."""

from __future__ import annotations

from services.storage.checkpoints.parts import is_image_name


def test_names_of_crius() -> None:
    assert all(map(is_image_name, (b"core-1.img", b"pages-1.img", b"tmpfs-dev-54.tar.gz.img", b"descriptors.json")))
    assert not any(map(is_image_name, (b"", b".", b"..", b".x", b"a b", b"a/b", b"\xff", b"x" * 256)))
