from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from kernel.config.sections import Config
from kernel.contracts.oci import ImageConfig
from kernel.contracts.runtime import CreateRequest, PodRequest
from kernel.errors import InvalidInput
from kernel.ids import ContainerId, SandboxId
from services.runtime.programs import conmon
from services.runtime.programs.oci_runtime import OciRuntime
from services.runtime.records.bundle import ContainerBundle

CONTAINER = ContainerId("c" * 64)


def launch(tmp_path: Path, *, systemd: bool = False, **fields: object) -> conmon.Launch:
    return conmon.Launch(
        container=CONTAINER, bundle=ContainerBundle(tmp_path, CONTAINER),
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


def prepare(tmp_path: Path, log_path: str) -> Path | None:
    pod = PodRequest(
        sandbox=SandboxId("a" * 64), name="n", namespace="s", uid="u", log_directory=str(tmp_path / "logs")
    )
    request = CreateRequest(
        container=CONTAINER, sandbox=pod.sandbox, name="n", attempt=0, image=ImageConfig(), image_name="i",
        image_ref="i", log_path=log_path,
    )  # fmt: skip
    assert conmon.prepare_log(msgspec.structs.replace(pod, log_directory=""), request) is None
    return conmon.prepare_log(pod, request)


def test_a_log_is_made_with_the_folders_to_it(tmp_path: Path) -> None:
    assert prepare(tmp_path, "a/b/0.log") == tmp_path / "logs" / "a" / "b" / "0.log"
    assert (tmp_path / "logs/a/b/0.log").stat().st_mode & 0o777 == 0o640
    (tmp_path / "logs/a/b/0.log").write_text("kept")
    prepare(tmp_path, "a/b/0.log")
    assert (tmp_path / "logs/a/b/0.log").read_text() == "kept"
    assert prepare(tmp_path, "") is None


def test_a_log_directory_is_no_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "logs").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InvalidInput, match="log_directory"):
        prepare(tmp_path, "0.log")
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize(
    "path", ["../x", "/x", "a/../../x", "link/x", "folder", "fifo", "filelink", "x" * 5000, "x" * 300, "a\0"]
)
def test_a_log_stays_below_its_directory(tmp_path: Path, path: str) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "link").symlink_to(tmp_path)
    (logs / "filelink").symlink_to(tmp_path / "target")
    (logs / "folder").mkdir()
    os.mkfifo(logs / "fifo")
    with pytest.raises(InvalidInput, match="log_path"):
        prepare(tmp_path, path)
    assert not (tmp_path / "x").exists()
    assert not (tmp_path / "target").exists()
