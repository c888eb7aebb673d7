"""What CRIU says, and how it is asked."""

from __future__ import annotations

from pathlib import Path

from kernel.config.sections import Config
from services.runtime.programs import criu
from services.runtime.programs.oci_runtime import OciRuntime


def test_the_first_of_crius_errors_is_the_cause(tmp_path: Path) -> None:
    output = b"Warn  (a.c:1): no matter\nError (b.c:2): the cause\nError (c.c:3): what follows\n"
    assert criu.first_error(output) == "Error (b.c:2): the cause"
    assert criu.first_error(b"\xff") == "without a reason"
    (tmp_path / "dump.log").write_bytes(output)
    assert criu.reason(tmp_path / "dump.log") == "Error (b.c:2): the cause"
    assert criu.reason(tmp_path / "none") == ""


def test_a_dumped_container_goes_on() -> None:
    runtime = OciRuntime("runc", Config(), systemd=True)
    words = criu.dump_command(runtime, "id", Path("/c/checkpoint"), Path("/c"), Path("/b/log"))
    assert words[:2] == ["/usr/sbin/runc", "--root=/run/crisp/runc-state"]
    assert "--systemd-cgroup" in words
    assert words[words.index("checkpoint") :] == [
        "checkpoint", "--leave-running", "--file-locks", "--image-path", "/c/checkpoint", "--work-path", "/c", "id",
    ]  # fmt: skip
