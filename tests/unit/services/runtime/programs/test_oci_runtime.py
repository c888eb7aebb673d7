from __future__ import annotations

from pathlib import Path

from kernel.config.sections import Config
from kernel.host.aio import Deadline
from services.runtime.programs import oci_runtime
from services.runtime.programs.oci_runtime import OciRuntime


def test_command_lines() -> None:
    runtime = OciRuntime("crun", Config(run="/r"), systemd=True)
    assert runtime.command("start", "x", log=Path("/l")) == [
        "/usr/bin/crun", "--root=/r/crun-state", "--log=/l", "--log-format=json", "--systemd-cgroup", "start", "x",
    ]  # fmt: skip
    assert "--systemd-cgroup" not in OciRuntime("runc", Config(), systemd=False).command("state", "x")


def test_the_last_error_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert oci_runtime.error_text(log) == ""
    log.write_text('{"level":"warning","msg":"w"}\n{"level":"error","msg":"first"}\nnot json\n'
                   '{"level":"error","msg":"exec: not found\\n"}\n{"level":"info","msg":"i"}\n{"lev')  # fmt: skip
    assert oci_runtime.error_text(log) == "exec: not found"


async def test_a_binary_that_is_not_there() -> None:
    config = Config()
    runtime = OciRuntime("runc", config, systemd=False)
    runtime.path = "/no/such/runc"
    assert await runtime.fact(Deadline.after(5)) is None
