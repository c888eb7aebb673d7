"""What the children of an unpack can still do, tried from inside; and what the kernel says of them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from kernel.host import filters, process
from kernel.host.aio import Deadline
from services.storage.confined import confine, system_calls

PROBE = Path(__file__).with_name("confined.py")
NO = "Operation not permitted"


async def probe(folder: Path, form: str, capabilities: int, calls: tuple[str, ...]) -> dict[str, object]:
    argv = [sys.executable, "-I", str(PROBE), form, str(capabilities), filters.allow_only(calls).hex()]
    ended = await process.run(argv, deadline=Deadline.after(20), cwd=str(folder))
    answers: dict[str, object] = json.loads(ended.check().stdout)
    return answers


@pytest.mark.parametrize("form", ["folder", "empty"])
async def test_nothing_but_the_folder_is_in_reach(tmp_path: Path, form: str) -> None:
    (tmp_path / "inside").touch()
    empty = form == "empty"
    capabilities = 0 if empty else confine.UNTAR_CAPABILITIES
    found = await probe(tmp_path, form, capabilities, system_calls.INFLATE if empty else system_calls.UNTAR)
    refused = ("socket", "fork", "exec", "kill", "unshare", "mount", "chroot", "ptrace", "raise")
    assert {what: found[what] for what in refused} == dict.fromkeys(refused, NO)
    missing = NO if empty else "No such file or directory"
    assert {what: found[what] for what in ("host", "above", "proc")} == dict.fromkeys(
        ("host", "above", "proc"), missing
    )
    assert found["listed"] == ([] if empty else ["inside"])
    assert found["write"] == (NO if empty else "done")
    assert sorted(os.listdir(tmp_path)) == (["inside"] if empty else ["inside", "new"])


async def test_a_check_reads_its_folder_and_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "inside").touch()
    found = await probe(tmp_path, "closed", confine.VERIFY_CAPABILITIES, system_calls.VERIFY)
    refused = ("socket", "fork", "exec", "kill", "unshare", "mount", "chroot", "ptrace", "raise")
    assert {what: found[what] for what in refused} == dict.fromkeys(refused, NO)
    assert {found[what] for what in ("host", "above", "proc")} == {"No such file or directory"}
    assert (found["listed"], found["write"]) == (["inside"], "Read-only file system")


async def test_without_a_filter_the_empty_root_is_still_empty(tmp_path: Path) -> None:
    (tmp_path / "inside").touch()
    found = await probe(tmp_path, "empty", 0, system_calls.UNTAR)
    assert found["host"] == "No such file or directory"
    assert found["write"] == "Read-only file system"
