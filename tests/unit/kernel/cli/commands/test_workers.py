"""`crisp workers`: what people and programs see of a process."""

from __future__ import annotations

import json
import os

import pytest
from msgspec import structs

from kernel.cli.commands.workers import COLUMNS, row, wait_for_ends
from kernel.cli.output import Output, plain
from kernel.contracts.supervisor import WorkerStatus
from kernel.errors import DeadlineExceeded
from kernel.supervisor.privileges.workers import CAPABILITIES


def worker(*capabilities: str, state: str = "ready") -> WorkerStatus:
    return WorkerStatus(
        name="image",
        pid=42,
        uid=999,
        capabilities=capabilities,
        seccomp="filter",
        no_new_privs=True,
        memory=12_000_000,
        restarts=1,
        uptime=3700.5,
        state=state,
    )


@pytest.mark.parametrize(
    ("capabilities", "shown"),
    [
        ((), "none"),
        (("CHOWN", "FOWNER"), "chown,fowner"),
        (tuple(CAPABILITIES), "all"),
        (tuple(name for name in CAPABILITIES if name != "SYS_RESOURCE"), "all but sys_resource"),
    ],
)
def test_capabilities(capabilities: tuple[str, ...], shown: str) -> None:
    header, line = plain(COLUMNS, [row(worker(*capabilities))]).splitlines()
    assert "SECCOMP" in header
    assert shown in line
    assert "12.0 MB" in line


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    Output(json=True, terminal=False).table(COLUMNS, [row(worker("CHOWN"))])
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["name"], found["pid"], found["capabilities"]) == ("image", 42, ["CHOWN"])
    assert found["memory"] == 12_000_000


def test_json_has_what_proc_shows_now(capsys: pytest.CaptureFixture[str]) -> None:
    Output(json=True, terminal=False).table(COLUMNS, [row(structs.replace(worker(), pid=os.getpid()))])
    (found,) = json.loads(capsys.readouterr().out)
    assert found["cpu_seconds"] > 0
    assert found["threads"] >= 1
    assert found["open_files"] >= 3
    down = row(structs.replace(worker(), pid=0))
    assert (down["cpu_seconds"], down["threads"], down["open_files"]) == (None, None, None)


def test_the_ends_of_processes_are_awaited() -> None:
    assert wait_for_ends([], 0)
    release, held = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(held)
        os.read(release, 1)  # until the test lets go
        os._exit(0)
    pidfd = os.pidfd_open(child)
    try:
        with pytest.raises(DeadlineExceeded, match="1 processes of the daemon have not ended"):
            wait_for_ends([pidfd], 0)
    finally:
        os.close(held)
        assert wait_for_ends([pidfd], 30)
        os.waitpid(child, 0)
        os.close(pidfd)
        os.close(release)
