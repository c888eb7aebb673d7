"""Lookaside stores, on a server and in a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.demo_image import digest
from kernel.errors import FailedPrecondition, Unavailable
from services.image.signatures import collected
from tests.integration.image.conftest import signatures_of
from tests.integration.image.lying import Lying, reply


async def test_a_lookaside_is_read_to_its_first_gap(signed, liars: Callable[..., Lying], tmp_path: Path) -> None:
    of = digest(b"x")
    server = liars()
    where = f"/store/team/app@sha256={of.removeprefix('sha256:')}"
    for number, data in ((1, b"one"), (2, b"\0sigstore-json\n{}"), (3, b"three"), (5, b"five")):
        server.routes[f"{where}/signature-{number}"] = reply(200, data)
    worker = await signed(f"docker: {{a.example: {{lookaside: 'http://{server.address}/store/'}}}}")
    assert [one.payload for one in await signatures_of(worker, "a.example/team/app:v1", of)] == [b"one", b"three"]
    assert [path for _, path, _ in server.seen] == [f"{where}/signature-{number}" for number in (1, 2, 3, 4)]
    assert await signatures_of(worker, "b.example/team/app:v1", of) == ()
    server.routes[f"{where}/signature-1"] = reply(503, b"busy with a secret")
    with pytest.raises(Unavailable, match="503") as caught:
        await signatures_of(worker, "a.example/team/app:v1", of)
    assert "secret" not in str(caught.value)


async def test_a_lookaside_may_be_a_folder(signed, tmp_path: Path) -> None:
    of = digest(b"x")
    folder = tmp_path / "store" / "team" / f"app@sha256={of.removeprefix('sha256:')}"
    folder.mkdir(parents=True)
    (folder / "signature-1").write_bytes(b"one")
    for text in ("", f"default-docker: {{lookaside: 'file://{tmp_path}/store'}}"):
        assert [one.payload for one in await signatures_of(await signed(text), "a.example/team/app", of)] == [b"one"]
    (folder / "signature-1").write_bytes(b"x" * (collected.SIZE_LIMIT + 1))
    with pytest.raises(FailedPrecondition, match="larger"):
        await signatures_of(await signed(), "a.example/team/app", of)
    (folder / "signature-1").unlink()
    (folder / "signature-1").mkdir()
    with pytest.raises(FailedPrecondition, match="not a plain file"):
        await signatures_of(await signed(), "a.example/team/app", of)
