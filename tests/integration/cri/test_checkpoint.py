"""CheckpointContainer, on a host with or without a CRIU that works."""

from __future__ import annotations

import shutil
import subprocess

import grpc

from tests.harness.cri import NOT_FOUND, refused

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def test_a_checkpoint_is_refused_with_what_is_missing(pod, cri, tmp_path):
    archive = tmp_path / "checkpoint.tar"
    container = pod.shell("sleep 600")
    criu = shutil.which("criu", path=PATH)
    works = criu is not None and not subprocess.run([criu, "check"], capture_output=True, check=False).returncode
    code = grpc.StatusCode.UNIMPLEMENTED if works else grpc.StatusCode.FAILED_PRECONDITION
    with refused(code, "checkpoint" if works else "criu"):
        cri.call("CheckpointContainer", container_id=container, location=str(archive))
    assert not archive.exists()
    assert cri.output(container, "echo", "on") == "on\n"
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "location"):
        cri.call("CheckpointContainer", container_id=container, location="../x")
    with refused(NOT_FOUND):
        cri.call("CheckpointContainer", container_id="f" * 64, location=str(archive))
    cri.stop(container, 0)
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "not running"):
        cri.call("CheckpointContainer", container_id=container, location=str(archive))
