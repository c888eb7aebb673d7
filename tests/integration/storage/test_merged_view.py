"""What layers show together, looked up without a mount, is what a mount of them shows."""

from __future__ import annotations

import os
import stat

from services.storage.roots import merged_view
from tests.integration.storage.conftest import Store, Tar


async def test_as_the_kernel_merges_them(store: Store) -> None:
    layers = [
        await store.unpack(Tar().folder("a").add("a/x").add("a/y").folder("b").add("b/x").link("l", "a").add("f")),
        await store.unpack(Tar().add("a/.wh.x").folder("b").add("b/.wh..wh..opq").add("b/y").add("l/inside")),
        await store.unpack(Tar().add("f/now/a/folder").add(".wh.f").link("c", "b").folder("b").add("b/.wh.y")),
    ]
    _, root = await store.mount(*layers)
    paths = [
        b"a",
        b"a/x",
        b"a/y",
        b"b",
        b"b/x",
        b"b/y",
        b"l",
        b"l/inside",
        b"l/x",
        b"f",
        b"f/now/a",
        b"c",
        b"c/x",
        b"n",
    ]
    with merged_view.opened([store.diff(layer) for layer in layers]) as together:
        assert len(together) == 3
        for path in paths:
            place = root / os.fsdecode(path)
            mounted = stat.S_IFMT(place.lstat().st_mode) if os.path.lexists(place) else merged_view.NOTHING
            if path == b"c/x":
                mounted = merged_view.NOTHING  # through a link: not asked for
            assert stat.S_IFMT(together.shown(path)) == mounted, path
