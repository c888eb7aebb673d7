"""Real parts for integration tests: a registry with images, and a daemon with a leak ledger.

The registry serves the whole run; a daemon serves one module, so that a leak is seen in the module that made it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from deploy.demo_image import Image, Layer, busybox_layer, image
from tests.harness import host
from tests.harness.cri import Cri, Pod
from tests.harness.daemon import Daemon, serving
from tests.harness.registry import Registry

USERS = ("crisp", "crisp-image", "crisp-stream")


def insecure(address: str) -> str:
    """registries.conf for a registry without TLS."""
    return f'[[registry]]\nlocation = "{address}"\ninsecure = true\n'


@pytest.fixture(scope="session")
def system_users() -> None:
    """The users that the unprivileged processes run as; deploy/up makes the same ones."""
    for user in USERS:
        if not any(line.startswith(f"{user}:") for line in Path("/etc/passwd").read_text().splitlines()):
            host.run("useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", user)


@pytest.fixture(scope="session")
def busybox() -> Image:
    """Busybox, with users to run as and a command of its own."""
    layer = busybox_layer()
    return image([layer.tar(), _people().tar()], {"Cmd": ["sh", "-c", "echo from the image"], "Env": ["PATH=/bin"]})


def _people() -> Layer:
    """Users and groups by name, and files of theirs."""
    layer = Layer()
    layer.file(
        "etc/passwd",
        b"root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001:web:/home/web:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
    )
    layer.file("etc/group", b"root:x:0:\nweb:x:1001:\nextra:x:2000:web\nnogroup:x:65534:\n")
    layer.folder("home/web", uid=1000, gid=1001)
    layer.file("home/web/hello", b"hello\n", uid=1000, gid=1001)
    return layer


@pytest.fixture(scope="session")
def registry(busybox: Image) -> Iterator[Registry]:
    """A registry on loopback without TLS that holds `busybox:latest`."""
    folder = Path(tempfile.mkdtemp(prefix="ctreg-", dir="/tmp"))
    served = Registry(folder)
    try:
        served.start()
        served.push(busybox, "busybox", "latest")
        yield served
    finally:
        served.stop()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def daemon(system_users: None, registry: Registry) -> Iterator[Daemon]:
    """A daemon that knows the registry; at the end of the module nothing of its pods may be left on the host."""
    mine = Daemon(insecure(registry.address))
    with serving(mine):
        yield mine


@pytest.fixture
def cri(daemon: Daemon) -> Cri:
    """The daemon's CRI."""
    return daemon.cri


@pytest.fixture(scope="module")
def busybox_ref(daemon: Daemon, registry: Registry) -> str:
    """Busybox, pulled."""
    reference = f"{registry.address}/busybox:latest"
    daemon.cri.pull(reference)
    return reference


class Pods:
    """Makes pods that are removed at the end of the test, whatever came of them."""

    def __init__(self, daemon: Daemon, image: str) -> None:
        self._daemon = daemon
        self._image = image
        self._made: list[Pod] = []

    def __call__(self, config=None, handler: str = "") -> Pod:
        pod = Pod(self._daemon.cri, self._daemon.logs, self._image, config, handler)
        self._made.append(pod)
        return pod

    def remove(self) -> None:
        """Remove all, and show the daemon's log if that fails."""
        for pod in self._made:
            pod.remove()


@pytest.fixture
def pods(daemon: Daemon, busybox_ref: str) -> Iterator[Pods]:
    """A maker of pods for this test."""
    maker = Pods(daemon, busybox_ref)
    yield maker
    maker.remove()


@pytest.fixture
def pod(pods: Pods) -> Pod:
    """A pod with a network of its own."""
    return pods()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows the end of its daemon's log."""
    report = yield
    daemon = getattr(item, "funcargs", {}).get("daemon")
    if report.failed and isinstance(daemon, Daemon):
        report.sections.append(("the daemon's log", daemon.tail()))
    return report
