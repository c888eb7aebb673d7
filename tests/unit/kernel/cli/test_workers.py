"""`crisp workers`: what people and programs see of a process."""

from __future__ import annotations

import json

import pytest

from kernel.cli.output import Output, plain
from kernel.cli.workers import COLUMNS, row
from kernel.contracts.supervisor import WorkerStatus
from kernel.supervisor.workers import CAPABILITIES


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
