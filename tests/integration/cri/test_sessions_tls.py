"""The stream process with TLS on a daemon: confined, it reads its certificate, and reads it again."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.cri.generated import cri_pb2 as pb
from tests.harness import host
from tests.harness.cri import Pod, pod_config
from tests.harness.daemon import CHECKOUT, Daemon, serving
from tests.harness.registry import Registry
from tests.harness.streams import Command
from tests.integration.conftest import insecure


def certificate(folder: Path, name: str) -> None:
    """A certificate and key that the stream process's user can read, put in their places at once."""
    fresh = folder / f"{name}.new"
    fresh.mkdir()
    host.run(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
        "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(fresh / "key.pem"),
        "-out", str(fresh / "cert.pem"),
    )  # fmt: skip
    shutil.chown(fresh / "key.pem", "crisp-stream")
    for part in ("key.pem", "cert.pem"):
        (fresh / part).rename(folder / part)
    fresh.rmdir()


@pytest.fixture(scope="module")
def daemon(system_users: None, registry: Registry) -> Iterator[Daemon]:
    """A daemon of its own, with TLS."""
    mine = Daemon(insecure(registry.address))
    tls = mine.folder / "tls"
    tls.mkdir()
    certificate(tls, "first")
    with serving(mine, stream={"tls_cert": str(tls / "cert.pem"), "tls_key": str(tls / "key.pem")}):
        yield mine


@pytest.fixture
def container(daemon: Daemon, pods) -> str:
    pod: Pod = pods(pod_config(daemon.logs, network=pb.NODE))
    return pod.run("sleep", "1000")


def execute(daemon: Daemon, container: str) -> bytes:
    url = daemon.cri.call("Exec", container_id=container, cmd=["echo", "hi"], stdout=True).url
    assert url.startswith("https://127.0.0.1:")
    trusting = ssl.create_default_context(cafile=str(daemon.folder / "tls/cert.pem"))
    with Command(url, stderr=False, tls=trusting) as command:
        assert command.exit_code() == 0
        return command.output()


def test_commands_by_tls(daemon: Daemon, container: str) -> None:
    assert execute(daemon, container) == b"hi\n"
    certificate(daemon.folder / "tls", "second")
    assert execute(daemon, container) == b"hi\n"


def test_the_command_line_trusts_the_daemons_own_certificate(daemon: Daemon, container: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kernel.cli.main", "--config", str(daemon.config_file), "exec", "-i", container, "cat"],
        cwd=CHECKOUT, input=b"by tls", capture_output=True, timeout=60 * host.SLOWNESS, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, b"by tls"), done.stderr
