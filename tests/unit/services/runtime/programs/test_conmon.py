"""How conmon is started, and which processes of it are found again."""

from __future__ import annotations

from pathlib import Path

from kernel.config.sections import Config
from kernel.ids import ContainerId
from services.runtime.programs import conmon
from services.runtime.programs.oci_runtime import OciRuntime
from services.runtime.records.bundle import ContainerBundle

CONTAINER = ContainerId("c" * 64)


def launch(tmp_path: Path, *, systemd: bool = False, **fields: object) -> conmon.Launch:
    return conmon.Launch(
        container_id=CONTAINER, bundle=ContainerBundle(tmp_path, CONTAINER),
        runtime=OciRuntime("runc", Config(run="/r"), systemd=systemd), **fields,  # type: ignore[arg-type]
    )  # fmt: skip


def test_command_line(tmp_path: Path) -> None:
    words = conmon.command_line("/usr/bin/conmon", launch(tmp_path, log=Path("/l/x.log")))
    assert words[0] == "/usr/bin/conmon"
    assert words[words.index("--log-path") + 1] == "k8s-file:/l/x.log"
    assert words[words.index("--runtime-arg") + 1] == "--root=/r/runc-state"
    assert not {"--terminal", "--stdin", "--systemd-cgroup", "--leave-stdin-open"} & set(words)
    words = conmon.command_line("conmon", launch(tmp_path, systemd=True, terminal=True, stdin=True))
    assert {"--terminal", "--stdin", "--systemd-cgroup", "--leave-stdin-open"} <= set(words)
    assert words[words.index("--log-path") + 1] == "none:"
    words = conmon.command_line("conmon", launch(tmp_path, stdin=True, stdin_once=True))
    assert "--leave-stdin-open" not in words
