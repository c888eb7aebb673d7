from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from services.runtime.cgroups.cgroup_tree import Cgroups
from services.runtime.cgroups.hierarchies import Hierarchies
from services.runtime.sessions import exec_process


def test_a_file_in_memory_cannot_be_changed() -> None:
    fd = exec_process.in_memory(b"{}")
    assert Path(f"/proc/self/fd/{fd}").read_bytes() == b"{}"
    with pytest.raises(PermissionError):
        os.pwrite(fd, b"x", 0)
    os.close(fd)


@pytest.mark.parametrize(("text", "pid"), [("12", 12), ("", 0), ("x", 0), (None, 0)])
def test_a_pid_file_that_is_missing_or_only_begun_names_nobody(tmp_path: Path, text: str | None, pid: int) -> None:
    if text is not None:
        (tmp_path / "pid").write_text(text)
    assert exec_process.written_pid(tmp_path / "pid") == pid


async def test_only_processes_of_the_cgroup_are_killed(tmp_path: Path) -> None:
    script = "sleep 600 & echo $!; wait $!"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True) as inside:
        assert inside.stdout
        child = int(inside.stdout.readline())
        (tmp_path / "box").mkdir()
        (tmp_path / "box" / "cgroup.procs").write_text(f"{child}\n")
        groups = Cgroups(Hierarchies(unified=tmp_path, v1={}))
        await exec_process.kill_tree(groups, "/box", {inside.pid})
        assert inside.wait(20) == 128 + 9, "the shell, which the cgroup does not have, saw its child killed"
