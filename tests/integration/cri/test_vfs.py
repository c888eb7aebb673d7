"""A node that can mount no overlay: pods run on copies of their images, and Status says so."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.harness.daemon import Daemon, serving
from tests.harness.registry import Registry
from tests.integration.conftest import insecure


@pytest.fixture(scope="module")
def daemon(system_users: None, registry: Registry) -> Iterator[Daemon]:
    mine = Daemon(insecure(registry.address), storage={"driver": "vfs"})
    with serving(mine):
        yield mine


@pytest.mark.parametrize("handler", ["runc", "crun"])
def test_a_pod_lives_on_a_copy(daemon: Daemon, pods, handler: str) -> None:
    pod = pods(handler=handler)
    assert pod.result("cat /home/web/hello; stat -c %u /home/web")[1] == [("stdout", "hello"), ("stdout", "1000")]
    running = pod.shell("echo mine > /file; sleep 600")
    daemon.kill("storage")
    assert daemon.cri.output(running, "cat", "/file") == "mine\n"
    assert json.loads(daemon.cri.status(verbose=True).info["storage"]) == {"driver": "vfs"}
    assert "vfs" in daemon.command("status").stdout
    assert json.loads(daemon.command("status", "--json").stdout)["storage_driver"] == "vfs"
    assert "containers get copies of their layers" in daemon.log.read_text()
